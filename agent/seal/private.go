package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/durable"
)

const mostFile = 64 << 10 // bytes

// readPrivate reads a file that nobody but its owner, this user or root, could have read
// or put there: no symlink, none of the modes that are forbidden, in a folder that others
// cannot write to.
func readPrivate(name string, forbidden uint32) ([]byte, error) {
	if err := checkFolder(filepath.Dir(name)); err != nil {
		return nil, err
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: put the file itself there", name)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := checkFile(f, forbidden); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, mostFile+1))
	if err == nil && len(data) > mostFile {
		err = fmt.Errorf("%s has more than %d bytes", name, mostFile)
	}
	return data, err
}

func checkFile(f *os.File, forbidden uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file", f.Name())
	case !ours(st.Uid):
		return fmt.Errorf("%s belongs to the user %d: chown it to the agent's", f.Name(), st.Uid)
	case st.Mode&forbidden != 0:
		return fmt.Errorf("%s can be used by others (mode %04o): chmod it to 0600, and make a new key if somebody may have read it", f.Name(), st.Mode&0o7777)
	}
	return nil
}

func checkFolder(name string) error {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&0o022 != 0 || !ours(st.Uid) {
		return fmt.Errorf("%s can be changed by others (mode %04o, user %d): a key in it is not safe", name, st.Mode&0o7777, st.Uid)
	}
	return nil
}

func ours(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// create makes a file with mode 0600, whole or not at all. One that another made at the
// same time is left.
func create(name string, data []byte) error {
	return put(name, data, func(temporary string) error {
		err := os.Link(temporary, name)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return errors.Join(err, os.Remove(temporary))
	})
}

// replace puts other content into the place of a file, whole or not at all.
func replace(name string, data []byte) error {
	return put(name, data, func(temporary string) error { return os.Rename(temporary, name) })
}

// put writes a temporary file, moves it to its place, and sees both to the disk.
func put(name string, data []byte, move func(temporary string) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := move(f.Name()); err != nil {
		return err
	}
	return durable.Sync(filepath.Dir(name))
}
