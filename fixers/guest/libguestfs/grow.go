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

// Grow changes the partition table, which the appliance's kernel then reads anew, and
// LVM's metadata, which its LVM does, and has its resize2fs, its XFS or its btrfs grow
// the file system.
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
	if err := g.growVolumes(r); err != nil {
		return fmt.Errorf("grow %w", err)
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
	return g.sh("partx --update '%s' 2>&1", g.labelled[r.Disk])
}

// growVolumes changes a volume group, whose volumes may be in use: LVM reads it anew
// and gives them their new sizes.
//
// Source: vgchange(8), --refresh.
func (g *engine) growVolumes(r guest.Resize) error {
	if r.Member == nil {
		return nil
	}
	open := func(device string) guest.Bytes { return raw{g.handle, g.devices[device]} }
	if err := g.topology.GrowVolumes(r, open); err != nil {
		return err
	}
	if err := g.handle.Sync(); err != nil {
		return err
	}
	if err := g.sh("lvm vgchange --refresh '%s' 2>&1", r.Member.Group); err != nil {
		return fmt.Errorf("%s: have LVM read it anew: %w", r.Member.Group, err)
	}
	if r.Volume == nil {
		return nil
	}
	size, err := g.handle.Blockdev_getsize64(g.devices[r.Volume.Name])
	if err == nil && size != r.Volume.To {
		err = fmt.Errorf("LVM has it with %d bytes, and it was to have %d", size, r.Volume.To)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Volume.Name, err)
	}
	return nil
}

func (g *engine) growFilesystem(f guest.GrownFilesystem) error {
	switch f.Type {
	case "xfs":
		return g.growMounted(f, func() error { return g.handle.Xfs_growfs("/", nil) })
	case "btrfs":
		super := make([]byte, guest.SuperblockSize)
		if _, err := g.reader(f.Device).ReadAt(super, guest.Superblock(f.Type)); err != nil {
			return err
		}
		return g.growMounted(f, func() error { return g.sh("btrfs filesystem resize %s /sysroot 2>&1", guest.GrowBtrfs(super)) })
	}
	return g.sh("%s '%s'", strings.Join(guest.GrowExt, " "), g.labelled[f.Device])
}

// growMounted mounts a file system to grow it.
func (g *engine) growMounted(f guest.GrownFilesystem, grow func() error) error {
	if err := g.Mount(f.Device, "/"); err != nil {
		return err
	}
	if err := grow(); err != nil {
		return err
	}
	return g.UnmountAll()
}

// sh runs a line of ours inside the appliance.
func (g *engine) sh(format string, args ...any) error {
	_, err := g.handle.Debug("sh", []string{fmt.Sprintf(format, args...)})
	return err
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
