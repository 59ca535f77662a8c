package guest

import (
	"fmt"
	"slices"
	"strings"
)

// use is what grows with a disk, and why not all does.
type use struct {
	partition, filesystem bool
	unused, try           string
}

// useOf decides by what is at the end of the disk. The partition of what does not
// grow with it grows only where nothing is kept at its end, as software RAID and
// NTFS do.
func useOf(f Filesystem, size int64, checked []Health) use {
	switch f.Type {
	case "ext2", "ext3", "ext4", "xfs", "btrfs":
		return useOfFilesystem(f, size, checked)
	case LVMMember:
		return use{partition: true}
	case "crypto_LUKS":
		return use{true, false, f.Device + " is encrypted", "in the guest: cryptsetup resize, then grow what is inside"}
	case "swap":
		return use{false, false, f.Device + " is swap space, which nothing in front of it can grow over", "in the guest: swapoff, remove that partition, grow the one in front of it and its file system, and make a swap file"}
	case "ntfs":
		return use{false, false, f.Device + " is NTFS, which Windows itself is to grow", "in Windows: Extend Volume, in the Disk Management"}
	case "":
		return use{false, false, "what is on " + f.Device + " is not known", "partition the rest in the guest"}
	}
	return use{false, false, fmt.Sprintf("%s is %s, which is not grown", f.Device, f.Type), "partition the rest in the guest"}
}

func useOfFilesystem(f Filesystem, size int64, checked []Health) use {
	i := slices.IndexFunc(checked, func(h Health) bool { return h.Device == f.Device })
	switch {
	case i < 0:
		return use{false, false, "the file system on " + f.Device + " was not checked", "grow the partition and its file system in the guest"}
	case checked[i].State != Clean:
		return use{false, false, fmt.Sprintf("the file system on %s is %s: %s", f.Device, checked[i].State, checked[i].Text), "run fsck in the guest and migrate again, or grow it there"}
	case f.Type == "btrfs" && f.Span == 0:
		return use{true, false, "the btrfs on " + f.Device + " lies on several devices", "in the guest: btrfs filesystem resize ID:max FOLDER"}
	case f.Type == "btrfs" && size < btrfsLeast:
		return use{true, false, fmt.Sprintf("the btrfs on %s has less than %d MiB, and is not resized by the kernel", f.Device, btrfsLeast>>20), "give it more"}
	case strings.HasPrefix(f.Type, "ext") && size > extEnd:
		return use{false, false, fmt.Sprintf("%s on %s is not grown beyond 16 TiB", f.Type, f.Device), "grow the partition and its file system in the guest"}
	}
	return use{partition: true, filesystem: true}
}

// btrfsLeast is the least size that the kernel gives to a btrfs, bytes.
//
// Source: Linux fs/btrfs/ioctl.c, btrfs_ioctl_resize.
const btrfsLeast = 256 << 20
