//go:build appliance

package libguestfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"hyper2kvm/fixers/guest"
)

// readOnly keeps the appliance's md from writing to superblocks, and from bringing
// members in step, before the first byte is written to an array.
//
// Source: Linux drivers/md/md.c, start_readonly; modprobe.d(5), kernel command line.
const readOnly = "md_mod.start_ro=1"

// openVolume finds the device that the appliance has made of a volume, and adds what
// it holds. The appliance assembles arrays, and activates the groups on them that are
// whole, when it starts.
func (g *engine) openVolume(v *guest.Volume) error {
	if v.Array != nil {
		return g.openArray(v)
	}
	if err := g.activate(); err != nil {
		return err
	}
	device := "/dev/" + v.Name
	uuid, err := g.handle.Lvuuid(device)
	if errors.Is(failed("", device, err), fs.ErrNotExist) {
		v.Problem = "LVM could not activate it"
		return nil
	}
	if err != nil {
		return err
	}
	if uuid != v.UUID {
		v.Problem = "LVM has activated another volume of its name"
		return nil
	}
	return g.openDevice(v, device)
}

func (g *engine) openDevice(v *guest.Volume, device string) error {
	g.devices[v.Name], g.labelled[v.Name] = device, device
	v.Unsupported = ""
	_, err := g.identify(v.Name, v.Size)
	return err
}

// activate has LVM activate volumes, where there are physical ones that it has not
// yet seen. Of groups that are not whole it activates the volumes that are.
func (g *engine) activate() error {
	n := len(slices.DeleteFunc(slices.Clone(g.topology.Filesystems), func(f guest.Filesystem) bool { return f.Type != guest.LVMMember }))
	if n == g.activated {
		return nil
	}
	g.activated = n
	if err := g.handle.Vg_activate_all(true); err != nil {
		g.log.Warn("LVM could not activate every volume", "err", err)
	}
	return nil
}

// openArray finds the array among those that the appliance's mdadm has assembled.
func (g *engine) openArray(v *guest.Volume) error {
	all, err := g.handle.List_md_devices()
	if err != nil {
		return err
	}
	for _, device := range all {
		detail, err := g.handle.Md_detail(device)
		if err != nil {
			g.log.Warn("md tells nothing of an array", "device", device, "err", err)
			continue
		}
		if detail["uuid"] != v.UUID {
			continue
		}
		size, err := g.handle.Blockdev_getsize64(device)
		if err != nil {
			return err
		}
		if size != v.Size {
			v.Problem = fmt.Sprintf("md has it with %d bytes, and by its superblocks it has %d", size, v.Size)
			return nil
		}
		return g.openDevice(v, device)
	}
	v.Problem = "md could not assemble it"
	return nil
}

// closeVolumes has md note in its superblocks that arrays are clean, as it does when
// they are stopped, which those beneath volumes of LVM's cannot be.
func (g *engine) closeVolumes() error {
	arrays := g.arrays()
	if len(arrays) == 0 {
		return nil
	}
	if err := g.handle.Vg_activate_all(false); err != nil {
		return err
	}
	for _, v := range arrays {
		if err := g.handle.Md_stop(g.devices[v.Name]); err != nil {
			return fmt.Errorf("stop %s: %w", v.Name, err)
		}
	}
	return nil
}

// arrays are those that were opened, each before what it lies on.
func (g *engine) arrays() []guest.Volume {
	opened := slices.DeleteFunc(slices.Clone(g.topology.Volumes), func(v guest.Volume) bool {
		return v.Array == nil || g.devices[v.Name] == ""
	})
	depth := map[string]int{}
	for range opened {
		for _, v := range opened {
			for _, on := range v.On {
				depth[on] = max(depth[on], depth[v.Name]+1)
			}
		}
	}
	slices.SortStableFunc(opened, func(a, b guest.Volume) int { return cmp.Compare(depth[a.Name], depth[b.Name]) })
	return opened
}
