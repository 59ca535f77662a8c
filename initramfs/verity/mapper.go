package verity

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests to the device-mapper, and flags of them.
// Source: kernel, include/uapi/linux/dm-ioctl.h.
const (
	dmCreate  = 0xc138fd03
	dmSuspend = 0xc138fd06
	dmLoad    = 0xc138fd09

	readOnly = 1 << 0

	headerSize = 312
	specSize   = 40
	nameAt     = 48
	nameLen    = 128
)

// create makes a read-only device of one target, and returns its name in /dev.
func create(name, target, table string, sectors uint64) (device string, err error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	made := request(name, 0)
	if err := ask(control, dmCreate, made); err != nil {
		return "", fmt.Errorf("make the device %s: %w", name, err)
	}
	loaded := request(name, len(table)+1)
	put32(loaded, 20, 1) // one target
	spec := loaded[headerSize:]
	binary.NativeEndian.PutUint64(spec[8:], sectors)
	copy(spec[24:specSize], target)
	copy(spec[specSize:], table)
	if err := ask(control, dmLoad, loaded); err != nil {
		return "", fmt.Errorf("describe the device %s: %w", name, err)
	}
	if err := ask(control, dmSuspend, request(name, 0)); err != nil { // without its flag, it resumes
		return "", fmt.Errorf("begin with the device %s: %w", name, err)
	}
	minor := binary.NativeEndian.Uint64(made[40:]) & 0xff
	return fmt.Sprintf("/dev/dm-%d", minor), nil
}

// request is a dm_ioctl of a name, with room for a target of so many bytes.
func request(name string, params int) []byte {
	size := headerSize
	if params > 0 {
		size += specSize + (params+7)&^7
	}
	b := make([]byte, size)
	put32(b, 0, 4) // version 4.0.0
	put32(b, 12, uint32(size))
	put32(b, 16, headerSize)
	put32(b, 28, readOnly)
	copy(b[nameAt:nameAt+nameLen-1], name)
	return b
}

func put32(b []byte, at int, v uint32) { binary.NativeEndian.PutUint32(b[at:], v) }

func ask(control *os.File, what uintptr, b []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), what, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return errno
	}
	return nil
}
