package upload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Tag tells a version of a file from others, as an ETag has it.
func Tag(info fs.FileInfo) string {
	return fmt.Sprintf(`"%x-%x"`, info.Size(), info.ModTime().UnixNano())
}

// ErrMatch is a file that is not the one any more that was to be replaced.
var ErrMatch = errors.New("the file has changed meanwhile")

// Match tells whether a file may be put in place: if none is there, or the one is that
// match, an If-Match header, names.
func Match(folder *os.Root, name, match string) error {
	info, err := folder.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && match == "":
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: it is not there", ErrMatch)
	case err != nil:
		return err
	case match == "" || !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s", ErrExists, name)
	case match != "*" && match != Tag(info):
		return ErrMatch
	}
	return nil
}

// Place gives a file that is whole its name, if Match has nothing against it. Of two
// that are placed at the same time where none was, the second is refused.
func Place(folder *os.Root, part, name, match string) error {
	if err := Match(folder, name, match); err != nil {
		return err
	}
	d, err := folder.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if match != "" {
		return errors.Join(folder.Rename(part, name), d.Sync())
	}
	err = unix.Renameat2(int(d.Fd()), part, int(d.Fd()), name, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %s", ErrExists, name)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // this file system cannot say so: rename(2)
		err = folder.Rename(part, name)
	}
	return errors.Join(err, d.Sync())
}
