//go:build appliance

package libguestfs

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
)

// Grow changes the partition table, which the appliance's kernel then reads anew,
// and has its resize2fs or its XFS grow what is on the partition.
func (g *engine) Grow(ctx context.Context, r guest.Resize) error {
	defer pin(g.handle)()
	known := func(d guest.Disk) bool { return d.Name == r.Disk }
	switch {
	case !slices.ContainsFunc(g.topology.Disks, known):
		return fmt.Errorf("grow %s: %w", r.Disk, fs.ErrNotExist)
	case len(g.mounts) > 0:
		return fmt.Errorf("grow %s: file systems are mounted", r.Disk)
	}
	if err := r.Checked(ctx, g.Check); err != nil {
		return fmt.Errorf("grow %s: %w", r.Disk, err)
	}
	if ctx.Err() != nil { // calls cannot be interrupted
		return context.Cause(ctx)
	}
	if err := g.topology.GrowTable(raw{g.handle, g.devices[r.Disk]}, r); err != nil {
		return fmt.Errorf("grow %w", err)
	}
	if err := g.reread(r); err != nil {
		return fmt.Errorf("grow %s: read its partition table anew: %w", r.Disk, err)
	}
	if r.Filesystem == nil {
		return nil
	}
	if err := g.growFilesystem(*r.Filesystem); err != nil {
		return fmt.Errorf("grow %s: %w", r.Filesystem.Device, err)
	}
	return g.topology.ReadSpans(g.reader)
}

// reread has the kernel know that partitions are larger, one by one: LVM and md may
// have others of the disk open, or these.
//
// Source: partx(8), --update; Linux block/ioctl.c, BLKPG_RESIZE_PARTITION.
func (g *engine) reread(r guest.Resize) error {
	if len(r.Partitions) == 0 {
		return nil
	}
	if err := g.handle.Blockdev_flushbufs(g.devices[r.Disk]); err != nil {
		return err
	}
	_, err := g.handle.Debug("sh", []string{fmt.Sprintf("partx --update '%s' 2>&1", g.labelled[r.Disk])})
	return err
}

func (g *engine) growFilesystem(f guest.GrownFilesystem) error {
	if f.Type != "xfs" {
		_, err := g.handle.Debug("sh", []string{fmt.Sprintf("%s '%s'", strings.Join(guest.GrowExt, " "), g.labelled[f.Device])})
		return err
	}
	if err := g.Mount(f.Device, "/"); err != nil {
		return err
	}
	if err := g.handle.Xfs_growfs("/", nil); err != nil {
		return err
	}
	return g.UnmountAll()
}

// WriteAt writes in parts that fit into a message.
func (r raw) WriteAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		done, err := r.handle.Pwrite_device(r.device, p[n:min(len(p), n+chunk)], off+int64(n))
		if err != nil {
			return n, err
		}
		n += done
	}
	return n, nil
}
