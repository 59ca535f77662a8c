package tree

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"hyper2kvm/fixers/guest"
)

// MountSubvolume puts a subvolume's tree at a folder; see NewGuest.
func (f *FS) MountSubvolume(device string, id uint64, at string) error {
	s, err := f.filesystem(device).Subvolume(id)
	if err != nil {
		return fmt.Errorf("mount %w", err)
	}
	return f.mount(device, s.Path, at)
}

func (f *FS) filesystem(device string) guest.Filesystem {
	for _, s := range f.topology.Filesystems {
		if s.Device == device {
			return s
		}
	}
	return guest.Filesystem{}
}

// byDefault is the subvolume that is mounted unless another is asked for.
func (f *FS) byDefault(device string) string {
	for _, s := range f.filesystem(device).Subvolumes {
		if s.Default {
			return s.Path
		}
	}
	return "/"
}

// below finds a folder by its path, no link followed.
func (n *node) below(path string) (*node, error) {
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if part == "" {
			continue
		}
		kid, ok := n.kids[part]
		if !ok || !kid.info.Mode.IsDir() {
			return nil, failed("mount", path, fs.ErrNotExist)
		}
		n = kid
	}
	return n, nil
}

// seal makes the read-only subvolumes of a device what they are.
func (f *FS) seal(device string, root *node) {
	all := slices.Clone(f.filesystem(device).Subvolumes)
	slices.SortFunc(all, func(a, b guest.Subvolume) int { return strings.Compare(a.Path, b.Path) }) // what is within comes later
	for _, s := range all {
		if n, err := root.below(s.Path); err == nil {
			n.setSealed(s.ReadOnly)
		}
	}
}

func (n *node) setSealed(sealed bool) {
	n.sealed = sealed
	for _, kid := range n.kids {
		kid.setSealed(sealed)
	}
}

// writable is an error for what is in a read-only subvolume.
func (n *node) writable(op, name string) error {
	if n.sealed {
		return failed(op, name, syscall.EROFS)
	}
	return nil
}
