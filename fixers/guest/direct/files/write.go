package files

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// writePiece writes what is in the window to a regular file, which is made if it is
// absent, from an offset on. After the last piece the file is cut behind it: what was
// there is written over in place before, so that blocks which a boot loader knows by
// number stay.
func (r *Root) writePiece(name string, offset int64, length int, last bool) error {
	if length < 0 || length > windowSize {
		return Failed("write", name, unix.EINVAL)
	}
	f, _, err := r.regular(name, unix.O_WRONLY)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = r.create(name)
	}
	if err != nil {
		return Failed("write", name, err)
	}
	return change("write", name, f, func() error {
		if _, err := f.WriteAt(r.window.bytes[:length], offset); err != nil || !last {
			return err
		}
		return f.Truncate(offset + int64(length))
	})
}

func (r *Root) create(name string) (*os.File, error) {
	fd, err := OpenIn(r.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Truncate cuts a regular file to size bytes.
func (r *Root) Truncate(name string, size int64) error {
	f, _, err := r.regular(name, unix.O_WRONLY)
	if err != nil {
		return Failed("truncate", name, err)
	}
	return change("truncate", name, f, func() error { return f.Truncate(size) })
}

// capability is the attribute that the kernel takes from a file that is
// written to; a write of ours keeps it.
const capability = "security.capability"

func change(op, name string, f *os.File, write func() error) error {
	value := make([]byte, maxXattr)
	n, getErr := unix.Fgetxattr(int(f.Fd()), capability, value)
	err := write()
	if getErr == nil && err == nil {
		err = unix.Fsetxattr(int(f.Fd()), capability, value[:n], 0)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return Failed(op, name, err)
	}
	return nil
}

// Mkdir makes a folder.
func (r *Root) Mkdir(name string, mode fs.FileMode) error {
	return r.within("mkdir", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, 0o700); err != nil {
			return err
		}
		return unix.Fchmodat(dir, base, guest.UnixMode(mode), 0) // whatever the umask
	})
}

// Symlink makes a symbolic link.
func (r *Root) Symlink(target, name string) error {
	return r.within("symlink", name, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
}

// Remove removes a file, a symbolic link or an empty folder.
func (r *Root) Remove(name string) error {
	return r.within("remove", name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err == unix.EISDIR || err == unix.EPERM {
			return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}
