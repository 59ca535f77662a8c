package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrNotWhole is a file system that does not grow, since a check has not found it
// whole.
var ErrNotWhole = errors.New("the file system is not known to be whole")

// GrowExt is the program that grows ext2, ext3 and ext4 to their device's size,
// in front of the device. -f: it asks for a run of e2fsck that notes in the file
// system when it was; ours has just been, and notes nothing.
//
// Source: resize2fs(8); e2fsprogs resize/main.c, checkit.
var GrowExt = []string{"resize2fs", "-f"}

// GrowBtrfs is what makes a btrfs as large as its only device, by its superblock: the
// device's ID there, which is not always 1, and how large.
//
// Source: btrfs-filesystem(8), resize; btrfs_tree.h, btrfs_dev_item.
func GrowBtrfs(super []byte) string {
	const device = 201
	return fmt.Sprintf("%d:max", binary.LittleEndian.Uint64(super[device:]))
}

// Checked lets an engine's Check look at the file system that is to grow, just before
// it does.
func (r Resize) Checked(ctx context.Context, check func(context.Context, string) (Health, error)) error {
	if r.Filesystem == nil {
		return nil
	}
	h, err := check(ctx, r.Filesystem.Device)
	if err == nil && h.State != Clean {
		err = fmt.Errorf("%w: %s is %s: %s", ErrNotWhole, h.Device, h.State, h.Text)
	}
	return err
}
