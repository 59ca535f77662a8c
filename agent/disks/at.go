package disks

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Attached is a disk that somebody knows by its node, whatever uses it.
type Attached struct {
	Path      string
	Size      int64 // bytes
	Bus       string
	Model     string // for people; empty if it does not tell
	Serial    string
	Removable bool
	ReadOnly  bool
}

// At is the whole disk that a node is. It is looked at, and not opened.
func (m Machine) At(path string) (Attached, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return Attached{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if s.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Attached{}, fmt.Errorf("%w: %s is no block device: give the whole disk, such as /dev/sdb", ErrInput, path)
	}
	return m.numbered(path, fmt.Sprintf("%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev)))
}

// numbered is At for a node's number.
func (m Machine) numbered(path, dev string) (Attached, error) {
	name := m.named(dev, "")
	if whole := m.wholeOf(name); whole != "" {
		return Attached{}, fmt.Errorf("%w: %s is a partition: give the whole disk, %s", ErrInput, path, m.node(whole))
	}
	if _, err := os.Stat(filepath.Join(m.Sys, "block", name)); name == "" || err != nil {
		return Attached{}, fmt.Errorf("%w: the kernel does not show what %s is", ErrUnknown, path)
	}
	b := m.block(name)
	return Attached{path, b.size, b.bus, plainText(b.model), plainText(b.serial), b.removable, b.readOnly}, nil
}
