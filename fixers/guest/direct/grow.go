package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// Grow changes the partition table through the disk's file, and has this host's
// resize2fs, or the kernel's XFS, grow what is on the partition.
func (g *engine) Grow(ctx context.Context, r guest.Resize) error {
	i := slices.IndexFunc(g.topology.Disks, func(d guest.Disk) bool { return d.Name == r.Disk })
	switch {
	case i < 0:
		return fmt.Errorf("grow %s: %w", r.Disk, fs.ErrNotExist)
	case len(g.mounts.list) > 0:
		return fmt.Errorf("grow %s: file systems are mounted", r.Disk)
	}
	if err := r.Checked(ctx, g.Check); err != nil {
		return fmt.Errorf("grow %s: %w", r.Disk, err)
	}
	if err := g.topology.GrowTable(g.disks[i], r); err != nil {
		return fmt.Errorf("grow %w", err)
	}
	if r.Filesystem == nil {
		return nil
	}
	if err := g.growFilesystem(ctx, r.Filesystem.Device); err != nil {
		return fmt.Errorf("grow %s: %w", r.Filesystem.Device, err)
	}
	return g.topology.ReadSpans(g.reader)
}

func (g *engine) growFilesystem(ctx context.Context, device string) error {
	f, ok := g.filesystem(device)
	switch {
	case !ok:
		return fs.ErrNotExist
	case f.Type == "xfs":
		return g.growXFS(f)
	}
	d, err := g.attach(f)
	if err != nil {
		return err
	}
	_, err = proc.Run(ctx, guest.GrowExt[0], slices.Concat(guest.GrowExt[1:], []string{d.node()})...)
	return errors.Join(err, d.detach())
}

// growXFS mounts an XFS and asks the kernel to grow it. That is all that
// xfs_growfs does; it would look for the mount where ours is not seen.
func (g *engine) growXFS(f guest.Filesystem) error {
	head := make([]byte, xfsHead)
	if _, err := g.reader(f.Device).ReadAt(head, 0); err != nil {
		return err
	}
	if err := g.Mount(f.Device, "/"); err != nil {
		return err
	}
	return errors.Join(growMounted(g.mounts.list[0].folder, f.Size, head), g.UnmountAll())
}

// XFS_IOC_FSGROWFSDATA takes the number of blocks that there shall be, and how
// many of a hundred may hold inodes: as many as before, by the superblock.
//
// Source: Linux fs/xfs/libxfs/xfs_fs.h, xfs_growfs_data_t; xfs_format.h, xfs_dsb.
const (
	xfsGrow       = 0x4010586e
	xfsHead       = 128
	xfsInodeShare = 127 // offset of sb_imax_pct
)

func growMounted(folder *os.File, size int64, head []byte) error {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(folder.Fd()), &s); err != nil {
		return err
	}
	data := struct {
		blocks uint64
		inodes uint32
	}{uint64(size / s.Bsize), uint32(head[xfsInodeShare])}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), xfsGrow, uintptr(unsafe.Pointer(&data))); errno != 0 {
		return fmt.Errorf("XFS does not grow to %d blocks: %w", data.blocks, errno)
	}
	return nil
}
