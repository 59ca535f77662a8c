package inspect

import (
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// arguments notes where the command line of a kernel that the boot loader starts
// names another root than was found, another subvolume of it, or logical volumes that
// there are not: the guest would not get that far.
//
// Source: Linux Documentation/admin-guide, root=; dracut.cmdline(7), rd.lvm.lv= and
// rd.lvm.vg=.
func (t *files) arguments(f Facts, m machine.Machine) {
	root, _ := f.MountAt("/")
	for _, k := range f.Kernels {
		if !k.Default {
			continue
		}
		for _, word := range strings.Fields(k.Options) {
			key, value, _ := strings.Cut(word, "=")
			switch value = unquote(value); key {
			case "root":
				if device, ok := f.Resolve(value, m); ok && device != root.Device {
					t.problem(k.Source, fmt.Sprintf("root=%s is %s, but the root file system was found on %s", value, device, root.Device))
				}
			case "rootflags":
				fs, _ := f.Filesystem(root.Device)
				if s, ok := subvolumeOf(fs, value); len(fs.Subvolumes) > 0 && (!ok || s.ID != root.Subvolume) {
					found, _ := f.SubvolumeOf(root)
					t.problem(k.Source, fmt.Sprintf("rootflags=%s is not the subvolume %s, on which the root file system was found", value, found.Path))
				}
			case "rd.lvm.lv", "rd.lvm.vg":
				if len(f.Topology.Volumes) > 0 && !f.hasVolume(value) {
					t.problem(k.Source, fmt.Sprintf("%s=%s names nothing that is on the disks", key, value))
				}
			}
		}
	}
}

// hasVolume tells whether there is a logical volume, or a group, of a name.
func (f Facts) hasVolume(name string) bool {
	for _, v := range f.Topology.Volumes {
		group, _, _ := strings.Cut(v.Name, "/")
		if slices.Contains([]string{v.Name, group}, name) {
			return true
		}
	}
	return false
}
