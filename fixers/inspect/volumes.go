package inspect

import (
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
)

// namedByLVM are the logical volumes that a name below /dev means, or the
// physical ones. Group and volume have one name in a folder, and another in
// /dev/mapper, where their hyphens are doubled.
//
// Source: LVM2 udev/11-dm-lvm.rules, 13-dm-disk.rules, 69-dm-lvm.rules.
func (f Facts) namedByLVM(name string) []string {
	var found []string
	for _, v := range f.Topology.Volumes {
		id := strings.ReplaceAll(v.Group+v.UUID, "-", "")
		names := []string{v.Name, "mapper/" + v.Mapped(), "disk/by-id/dm-name-" + v.Mapped(), "disk/by-id/dm-uuid-LVM-" + id}
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

// volume finds a logical volume by the topology's name of it.
func (f Facts) volume(device string) (guest.Volume, bool) {
	i := slices.IndexFunc(f.Topology.Volumes, func(v guest.Volume) bool { return v.Name == device })
	if i < 0 {
		return guest.Volume{}, false
	}
	return f.Topology.Volumes[i], true
}

// Beneath are the disks and partitions that a device of the topology lies on:
// itself, unless it is a logical volume.
func (f Facts) Beneath(device string) []string {
	if v, ok := f.volume(device); ok {
		return v.On
	}
	return []string{device}
}

// assembled tells whether the engine opened a logical volume of a physical one.
func (f Facts) assembled(device string) bool {
	return slices.ContainsFunc(f.Topology.Volumes, func(v guest.Volume) bool {
		_, opened := f.Filesystem(v.Name)
		return opened && slices.Contains(v.On, device)
	})
}

func unopened(v guest.Volume) string { return v.Problem + ", not opened" }

// ofTopology notes what the engine could not read or open.
func (t *files) ofTopology(f Facts) {
	for _, p := range f.Topology.Problems {
		t.problem(p.Device, p.Text)
	}
	for _, v := range f.Topology.Volumes {
		if v.Problem != "" {
			t.problem(v.Name, unopened(v))
		}
	}
}
