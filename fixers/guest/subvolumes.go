package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"hyper2kvm/fixers/guest/btrfs"
)

// ReadSubvolumes adds to each btrfs of a topology its subvolumes. Both engines use
// it, once what lies on the disks is known. open reads a device of the topology.
func (t *Topology) ReadSubvolumes(open func(device string) io.ReaderAt) error {
	for i := range t.Filesystems {
		f := &t.Filesystems[i]
		if f.Type != "btrfs" {
			continue
		}
		found, err := btrfs.Read(open(f.Device), f.Size)
		if errors.Is(err, btrfs.ErrUnread) {
			t.Problems = append(t.Problems, Problem{f.Device, err.Error()})
		} else if err != nil {
			return fmt.Errorf("%s: subvolumes: %w", f.Device, err)
		}
		for _, s := range found {
			f.Subvolumes = append(f.Subvolumes, Subvolume(s))
		}
	}
	return nil
}

// Subvolume finds a subvolume by its ID; its error wraps fs.ErrNotExist.
func (f Filesystem) Subvolume(id uint64) (Subvolume, error) {
	i := slices.IndexFunc(f.Subvolumes, func(s Subvolume) bool { return s.ID == id })
	if i < 0 {
		return Subvolume{}, fmt.Errorf("%s: no subvolume has the ID %d: %w", f.Device, id, fs.ErrNotExist)
	}
	return f.Subvolumes[i], nil
}
