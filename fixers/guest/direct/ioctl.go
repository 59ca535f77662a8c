package direct

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl is a call that takes the address of a value of a fixed size.
func ioctl[T any](f *os.File, call uintptr, value *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), call, uintptr(unsafe.Pointer(value)))
	if errno != 0 {
		return errno
	}
	return nil
}
