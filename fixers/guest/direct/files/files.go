// Package files is the half of the direct engine that reads and writes a guest's
// files, in a process of its own that can do nothing else: Serve is that process,
// Client asks it. It sees no folder but the guest's, has the capabilities that an
// owner of all files has, and makes no system calls but those on files. Attributes
// take more: a Keeper in the process that has mounted the guest keeps them.
package files

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a guest's files. Names are resolved by the kernel as if its folder were "/".
type Root struct {
	fd     int // the folder, or -1
	attrs  Attrs
	window *Window
}

// Attrs keeps the extended attributes of what a descriptor, which may be a bare
// O_PATH, stands for.
type Attrs interface {
	List(fd int) ([]string, error)
	Get(fd int, name string) ([]byte, error)
	Set(fd int, name string, value []byte) error
	Remove(fd int, name string) error
}

// NewRoot has no files before Enter.
func NewRoot(attrs Attrs, window *Window) *Root { return &Root{fd: -1, attrs: attrs, window: window} }

// Enter shows what is mounted at a folder.
func (r *Root) Enter(folder string) (err error) {
	if err := r.Leave(); err != nil {
		return err
	}
	r.fd, err = OpenIn(unix.AT_FDCWD, folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Failed("enter", folder, err)
	}
	return nil
}

// Leave lets go of the folder, so that it can be unmounted.
func (r *Root) Leave() error {
	if r.fd < 0 {
		return nil
	}
	fd := r.fd
	r.fd = -1
	return unix.Close(fd)
}

// Failed is an error as callers expect it: a name below something that is not
// a folder is a name of nothing.
func Failed(op, name string, err error) error {
	if errors.Is(err, unix.ENOTDIR) && op != "readdir" {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// openTries bounds how often the kernel may ask to try again because something
// was renamed anywhere meanwhile: openat2(2), EAGAIN.
const openTries = 1000

// OpenIn opens a name as if root were "/".
func OpenIn(root int, name string, flags uint64, mode uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: mode, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range openTries {
		fd, err = unix.Openat2(root, cmp.Or(name, "/"), &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

func (r *Root) open(name string, flags uint64) (int, error) {
	if r.fd < 0 {
		return -1, errors.New("nothing is mounted")
	}
	return OpenIn(r.fd, name, flags, 0)
}

// itself opens name for its metadata, a link as a link.
func (r *Root) itself(name string) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return -1, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, st, errors.Join(err, unix.Close(fd))
	}
	return fd, st, nil
}

// parent opens the folder of name and returns its last element.
func (r *Root) parent(name string) (int, string, error) {
	name = strings.TrimRight(name, "/")
	dir, base := path.Split(name)
	if base == "" || base == "." || base == ".." {
		return -1, "", unix.EBUSY // the root, or a folder by another name
	}
	fd, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	return fd, base, err
}

// within calls f with the folder of name and the last element.
func (r *Root) within(op, name string, f func(dir int, base string) error) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return Failed(op, name, err)
	}
	defer unix.Close(dir)
	if err := f(dir, base); err != nil {
		return Failed(op, name, err)
	}
	return nil
}
