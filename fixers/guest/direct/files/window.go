package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Window is memory that both processes see: the content of files goes through it, a
// piece at a time. Its size is sealed, so that neither can take it from the other.
type Window struct{ bytes []byte }

// windowSize is the largest piece.
const windowSize = 2 << 20

// NewWindow makes one, and the file to hand over.
func NewWindow() (*Window, *os.File, error) {
	fd, err := unix.MemfdCreate("window", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), "window")
	if err := f.Truncate(windowSize); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	w, err := openWindow(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return w, f, nil
}

// openWindow shows a window.
func openWindow(f *os.File) (*Window, error) {
	bytes, err := unix.Mmap(int(f.Fd()), 0, windowSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &Window{bytes}, nil
}

// Close lets go of the memory.
func (w *Window) Close() error {
	if w.bytes == nil {
		return nil
	}
	bytes := w.bytes
	w.bytes = nil
	return unix.Munmap(bytes)
}
