package disks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// protect sets a disk read-only, or takes that back: the kernel refuses every write then,
// whoever asks for it, to its partitions too.
//
// Source: Linux include/uapi/linux/fs.h, BLKROSET; include/linux/blkdev.h,
// bdev_read_only, which asks the whole disk for its partitions.
func (m Machine) protect(d disk, on bool) error { return setReadOnly(m.node(d.block.name), on) }

func setReadOnly(node string, on bool) (err error) {
	f, err := os.OpenFile(node, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	value := 0
	if on {
		value = 1
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, value); err != nil {
		return fmt.Errorf("set %s read-only: %w", node, err)
	}
	return nil
}

// link makes the path of a disk lead to its node, if it does not.
func (m Machine) link(d disk) error {
	path, node := m.Path(d.id), m.node(d.block.name)
	if leads(path, node) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Join("..", "..", d.block.name), next); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// unlink removes the path of a disk, which then leads elsewhere or nowhere.
func (m Machine) unlink(d disk) error {
	path := m.Path(d.id)
	if to, err := os.Readlink(path); err != nil || to != filepath.Join("..", "..", d.block.name) {
		return nil
	}
	return os.Remove(path)
}

func leads(path, node string) bool {
	to, err := filepath.EvalSymlinks(path)
	want, failed := filepath.EvalSymlinks(node)
	return err == nil && failed == nil && to == want
}
