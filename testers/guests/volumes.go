package guests

import (
	"fmt"
	"slices"
	"strings"
)

// firstByte is where the first partition begins: 1 MiB, as every installer since
// 2010 has it, which leaves the gap that grub-install writes its core into.
const firstByte = mib

// The layout of a physical volume: logical volumes begin at its first extent.
// Source: lvm.conf(5), data_alignment and default_data_alignment; vgcreate(8).
const (
	firstExtent = mib
	extent      = 4 * mib
)

// volume is a file system or swap space, and where it is.
type volume struct {
	Filesystem
	disk    int    // its disk's place
	start   int64  // on that disk, in bytes
	path    string // its name by VMware's path, if it is a partition
	kernel  string // its name in the kernel's order, or that of the logical volume
	logical bool
	stacked bool // it lies in LUKS or on an array
}

// start is where a partition begins on the disk, in bytes.
func (d Disk) start(partition int) int64 {
	at := firstByte
	for _, p := range d.Partitions[:partition] {
		at += p.Size
	}
	return at
}

// volumes are all that is on the guest's disks, in that order.
func (r Recipe) volumes() []volume {
	var all []volume
	for i, d := range r.Disks {
		for n, p := range d.Partitions {
			switch {
			case p.Locked.Name != "":
				all = append(all, p.lockedVolumes(i, d.start(n))...)
				continue
			case p.Group.Name != "":
				all = append(all, p.Group.volumes(i, d.start(n))...)
				continue
			case p.Type == raidMember:
				continue
			}
			all = append(all, volume{
				Filesystem: p.Filesystem, disk: i, start: d.start(n),
				path:   fmt.Sprintf("%s-part%d", r.byPath(i), n+1),
				kernel: buses[r.Bus].kernel(i, n+1),
			})
		}
	}
	for _, a := range r.Arrays {
		all = append(all, volume{Filesystem: a.Filesystem, kernel: a.device(), stacked: true})
	}
	return all
}

// volumes are those of a group whose physical volume begins there.
func (g Group) volumes(disk int, start int64) []volume {
	var all []volume
	at := start + firstExtent
	for _, l := range g.Volumes {
		all = append(all, volume{Filesystem: l.Filesystem, disk: disk, start: at, kernel: mapperName(g.Name, l.Name), logical: true})
		at += l.Size
	}
	return all
}

// mapperName is the device of a logical volume: one hyphen divides group and
// volume, so those in their names are doubled.
func mapperName(group, volume string) string {
	double := strings.NewReplacer("-", "--")
	return "/dev/mapper/" + double.Replace(group) + "-" + double.Replace(volume)
}

// subvolumes are those of a btrfs.
func (v volume) subvolumes() []Subvolume {
	if v.Subvolume == "" {
		return nil
	}
	return append([]Subvolume{{v.Subvolume, v.Mount}}, v.Beside...)
}

// Mounts are the folders at which something of the file system is mounted.
func (f Filesystem) Mounts() []string {
	folders := []string{f.Mount}
	for _, s := range f.Beside {
		folders = append(folders, s.Mount)
	}
	return folders
}

// at is the volume that is mounted there. Every recipe has a root and a swap space.
func (r Recipe) at(mount string) volume {
	all := r.volumes()
	return all[slices.IndexFunc(all, func(v volume) bool { return v.Mount == mount })]
}

// name is what a configuration calls the volume.
func (v volume) name(by Names) string {
	switch {
	case by == ByPath:
		return v.path
	case by == ByKernel || v.logical:
		return v.kernel
	}
	return "UUID=" + v.UUID
}

// fstabLines end with what Debian's installer writes for such a volume.
// Source: partman-target, finish.d/create_fstab_header and fstab.d; partman-btrfs,
// fstab.d/btrfs.
func (v volume) fstabLines() string {
	lines := ""
	for _, s := range v.subvolumes() {
		lines += fmt.Sprintf("%s %s btrfs defaults,subvol=%s 0 0\n", v.name(v.Named), s.Mount, s.Name)
	}
	if lines != "" {
		return lines
	}
	options := map[string]string{
		"ext4": "defaults 0 2",
		"xfs":  "defaults 0 0",
		"vfat": "umask=0077 0 1",
		"swap": "sw 0 0",
	}[v.Type]
	if v.Mount == "/" && v.Type == "ext4" {
		options = "errors=remount-ro 0 1"
	}
	return fmt.Sprintf("%s %s %s %s\n", v.name(v.Named), v.Mount, v.Type, options)
}
