package vhost

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Memory is shared with the servers of devices: what is read and written lies in
// it. It must outlive every device that was dialed with it.
type Memory struct {
	file *os.File
	data []byte
}

// NewMemory takes size bytes, a multiple of the page size.
func NewMemory(size int) (*Memory, error) {
	fd, err := unix.MemfdCreate("hyper2kvm-disk", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory to share: %w", err)
	}
	m := &Memory{file: os.NewFile(uintptr(fd), "hyper2kvm-disk")}
	err = m.file.Truncate(int64(size))
	if err == nil {
		m.data, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory to share: %w", err), m.file.Close())
	}
	return m, nil
}

// Bytes is the whole memory.
func (m *Memory) Bytes() []byte { return m.data }

// Close gives the memory back. Nothing may use a part of it any more.
func (m *Memory) Close() error { return errors.Join(unix.Munmap(m.data), m.file.Close()) }

// offset is where p lies in the memory; false if it does not lie in it.
func (m *Memory) offset(p []byte) (uint64, bool) {
	if len(p) == 0 {
		return 0, false
	}
	begin, at := uintptr(unsafe.Pointer(&m.data[0])), uintptr(unsafe.Pointer(&p[0]))
	if at < begin || at+uintptr(len(p)) > begin+uintptr(len(m.data)) {
		return 0, false
	}
	return uint64(at - begin), true
}
