package guest

import (
	"context"
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
