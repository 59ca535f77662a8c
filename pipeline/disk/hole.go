package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Hole tells whether n bytes of a file from at on begin with a hole, and for how many
// of them that is so. A file system that does not know says that all is data, and so
// does a device.
func Hole(f *os.File, at, n int64) (length int64, hole bool, err error) {
	data, err := seek(f, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.EINVAL): // a file system without
		return n, false, nil
	case errors.Is(err, unix.ENXIO): // nothing but a hole up to the end
		return n, true, nil
	case err != nil:
		return 0, false, fmt.Errorf("%s: look for holes: %w", f.Name(), err)
	case data > at:
		return min(data-at, n), true, nil
	}
	end, err := seek(f, at, unix.SEEK_HOLE)
	if err != nil {
		return 0, false, fmt.Errorf("%s: look for holes: %w", f.Name(), err)
	}
	return min(end-at, n), false, nil
}

// seek does not ask the file for its descriptor, which would make it block.
func seek(f *os.File, at int64, whence int) (to int64, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(fd uintptr) { to, err = unix.Seek(int(fd), at, whence) })
	return to, errors.Join(failed, err)
}
