package disks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/proc"
)

// formatted makes a file system on a disk, whose ID may be another one then.
func (k *Keeper) formatted(ctx context.Context, d disk, use model.DiskUse) (disk, error) {
	node := k.node(d.block.name)
	if err := wipe(node); err != nil {
		return d, err
	}
	name, args := formatArgs(use.Format, use.Name, node)
	if _, err := proc.Run(ctx, name, args...); err != nil {
		return d, fmt.Errorf("make %s on %s: %w", use.Format, d.id, err)
	}
	k.Log.Info("a file system was made on a disk", "disk", d.id, "format", use.Format)
	list, _, err := k.scan(ctx)
	if err != nil {
		return d, err
	}
	if i := slices.IndexFunc(list, func(now disk) bool { return now.seq == d.seq }); i >= 0 {
		return list[i], nil
	}
	return d, fmt.Errorf("%w: %s was pulled out", ErrUnknown, d.id)
}

// formatArgs are of the programs that make file systems. The force that they are given is
// for whole disks and old signatures: what is there may be lost by then. Labels are cut
// to what a file system can have.
//
// Source: mke2fs(8), mkfs.xfs(8), mkntfs(8), mkfs.exfat(8).
func formatArgs(format model.DiskUseFormat, label, node string) (name string, args []string) {
	cut := func(most int) string { return label[:min(len(label), most)] }
	switch format {
	case model.DiskUseFormatXfs:
		return "mkfs.xfs", []string{"-q", "-f", "-L", cut(12), node}
	case model.DiskUseFormatNtfs:
		return "mkfs.ntfs", []string{"--quick", "--force", "--label", cut(32), node}
	case model.DiskUseFormatExfat:
		return "mkfs.exfat", []string{"-L", cut(11), node}
	}
	return "mke2fs", []string{"-q", "-F", "-t", "ext4", "-L", cut(16), node}
}

// wipe takes a disk's signatures away, and has the kernel forget its partitions.
func wipe(node string) (err error) {
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0) // nobody uses it
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	zeroes := make([]byte, min(ends, size))
	for _, at := range []int64{0, size - int64(len(zeroes))} {
		if _, err := f.WriteAt(zeroes, at); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil && !errors.Is(err, unix.EINVAL) { // a disk that has no partitions
		return fmt.Errorf("read the partition table again: %w", err)
	}
	return nil
}
