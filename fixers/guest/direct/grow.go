package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// Grow changes the partition table and LVM's metadata through the disks' files, and
// has this host's resize2fs, or the kernel's XFS or btrfs, grow the file system.
func (g *engine) Grow(ctx context.Context, r guest.Resize) error {
	i := slices.IndexFunc(g.topology.Disks, func(d guest.Disk) bool { return d.Name == r.Disk })
	switch {
	case i < 0:
		return fmt.Errorf("grow %s: %w", r.Disk, fs.ErrNotExist)
	case len(g.mounts.list) > 0:
		return fmt.Errorf("grow %s: file systems are mounted", r.Disk)
	}
	if err := shows(r); err != nil {
		return fmt.Errorf("grow %s: %w", r.Disk, err)
	}
	if err := r.Checked(ctx, g.Check); err != nil {
		return fmt.Errorf("grow %s: %w", r.Disk, err)
	}
	if err := g.topology.GrowTable(g.disks[i], r); err != nil {
		return fmt.Errorf("grow %w", err)
	}
	if err := g.topology.GrowVolumes(r, g.bytes); err != nil {
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

// shows refuses what could not be shown once it has grown.
func shows(r guest.Resize) error {
	if r.Volume == nil || !r.Volume.Apart {
		return nil
	}
	if err := NoMapper(); err != nil {
		return fmt.Errorf("%w: %s would lie in several pieces, and device-mapper does not work here: %w", ErrUnsupported, r.Volume.Name, err)
	}
	return nil
}

// bytes are those of a disk or a partition, to read and to write.
func (g *engine) bytes(device string) guest.Bytes {
	file, start := g.extent(device)
	return struct {
		io.ReaderAt
		io.WriterAt
	}{g.part(device), io.NewOffsetWriter(file, start)}
}

func (g *engine) growFilesystem(ctx context.Context, device string) error {
	f, ok := g.filesystem(device)
	switch {
	case !ok:
		return fs.ErrNotExist
	case f.Type == "xfs":
		return g.growMounted(ctx, f, growXFS)
	case f.Type == "btrfs":
		return g.growMounted(ctx, f, growBtrfs)
	}
	d, err := g.attach(f)
	if err != nil {
		return err
	}
	_, err = confined(d.Node(), true, guest.GrowExt[0], guest.GrowExt[1:]...).Run(ctx)
	return errors.Join(err, d.Detach())
}

// growMounted mounts a file system and asks the kernel to grow it. That is all that
// xfs_growfs and btrfs do; the first would look for the mount where ours is not seen.
func (g *engine) growMounted(ctx context.Context, f guest.Filesystem, grow func(folder *os.File, f guest.Filesystem, super []byte) error) error {
	super := make([]byte, guest.SuperblockSize)
	if _, err := g.reader(f.Device).ReadAt(super, guest.Superblock(f.Type)); err != nil {
		return err
	}
	if err := g.Mount(ctx, f.Device, "/"); err != nil {
		return err
	}
	return errors.Join(grow(g.mounts.list[0].folder, f, super), g.UnmountAll())
}

// XFS_IOC_FSGROWFSDATA takes the number of blocks that there shall be, and how
// many of a hundred may hold inodes: as many as before, by the superblock.
//
// Source: Linux fs/xfs/libxfs/xfs_fs.h, xfs_growfs_data_t; xfs_format.h, xfs_dsb.
const (
	xfsGrow       = 0x4010586e
	xfsInodeShare = 127 // offset of sb_imax_pct
)

func growXFS(folder *os.File, f guest.Filesystem, super []byte) error {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(folder.Fd()), &s); err != nil {
		return err
	}
	data := struct {
		blocks uint64
		inodes uint32
	}{uint64(f.Size / s.Bsize), uint32(super[xfsInodeShare])}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), xfsGrow, uintptr(unsafe.Pointer(&data))); errno != 0 {
		return fmt.Errorf("XFS does not grow to %d blocks: %w", data.blocks, errno)
	}
	return nil
}

// BTRFS_IOC_RESIZE takes what `btrfs filesystem resize` does, in a field behind a
// file descriptor that it does not use.
//
// Source: Linux include/uapi/linux/btrfs.h, btrfs_ioctl_vol_args; btrfs-filesystem(8).
const btrfsResize = 0x50009403

func growBtrfs(folder *os.File, _ guest.Filesystem, super []byte) error {
	var args struct {
		fd   int64
		what [4088]byte
	}
	what := guest.GrowBtrfs(super)
	copy(args.what[:], what)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), btrfsResize, uintptr(unsafe.Pointer(&args))); errno != 0 {
		return fmt.Errorf("btrfs does not grow to %s: %w", what, errno)
	}
	return nil
}
