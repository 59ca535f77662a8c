package inspect

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/fixers/guest"
)

// named are the volumes that a name below /dev means, or the members of some. A
// group's name and a volume's are one in a folder, and another in /dev/mapper, where
// their hyphens are doubled.
//
// Source: LVM2 udev/11-dm-lvm.rules, 13-dm-disk.rules, 69-dm-lvm.rules; mdadm
// udev-md-raid-arrays.rules.
func (f Facts) named(name string) []string {
	var found []string
	for _, v := range f.Topology.Volumes {
		names := lvmNames(v)
		if v.Array != nil {
			names = arrayNames(v)
		}
		if slices.Contains(names, name) {
			found = append(found, v.Name)
		}
	}
	for _, fs := range f.Topology.Filesystems {
		if fs.Type == guest.LVMMember && fs.UUID != "" && name == "disk/by-id/lvm-pv-uuid-"+fs.UUID {
			found = append(found, fs.Device)
		}
	}
	return found
}

func lvmNames(v guest.Volume) []string {
	id := strings.ReplaceAll(v.Group+v.UUID, "-", "")
	return []string{v.Name, "mapper/" + v.Mapped(), "disk/by-id/dm-name-" + v.Mapped(), "disk/by-id/dm-uuid-LVM-" + id}
}

// arrayNames are the names of an array that follow from its superblocks: an array
// named 0 is md0, as is one of version 0.90 with that number. The numbers of others
// are given in the order in which they are found.
//
// Source: mdadm(8), "DEVICE NAMES".
func arrayNames(v guest.Volume) []string {
	label := strings.TrimPrefix(v.Name, "md/")
	names := []string{v.Name, "md/" + v.Array.Name, "disk/by-id/md-uuid-" + v.UUID, "disk/by-id/md-name-" + v.Array.Name}
	if n, err := strconv.Atoi(label); err == nil && n >= 0 && strconv.Itoa(n) == label {
		names = append(names, "md"+label)
	}
	return names
}

// volume finds a volume by the topology's name of it.
func (f Facts) volume(device string) (guest.Volume, bool) {
	i := slices.IndexFunc(f.Topology.Volumes, func(v guest.Volume) bool { return v.Name == device })
	if i < 0 {
		return guest.Volume{}, false
	}
	return f.Topology.Volumes[i], true
}

// Beneath are the disks and partitions that a device of the topology lies on:
// itself, unless it is a volume.
func (f Facts) Beneath(device string) []string {
	on := []string{device}
	for range len(f.Topology.Volumes) + 1 { // no volume lies on itself
		var next []string
		for _, d := range on {
			if v, ok := f.volume(d); ok {
				next = append(next, v.On...)
				continue
			}
			next = append(next, d)
		}
		on = slices.Compact(slices.Sorted(slices.Values(next)))
	}
	return on
}

// within names the volume that the engine has opened and that a device is a part of.
func (f Facts) within(device string) (volume string, ok bool) {
	for _, v := range f.Topology.Volumes {
		_, opened := f.Filesystem(v.Name)
		if slices.Contains(v.On, device) && opened {
			return v.Name, true
		}
	}
	return "", false
}

func unopened(v guest.Volume) string { return cmp.Or(v.Problem, v.Unsupported) + ", not opened" }

// ofTopology notes what the engine could not read or open.
func (t *files) ofTopology(f Facts) {
	for _, p := range f.Topology.Problems {
		t.problem(p.Device, p.Text)
	}
	for _, v := range f.Topology.Volumes {
		if v.Problem != "" || v.Unsupported != "" {
			t.problem(v.Name, unopened(v))
		}
	}
}
