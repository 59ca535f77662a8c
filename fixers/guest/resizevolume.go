package guest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxExtents is how many extents LVM counts.
const maxExtents = 1<<32 - 1

// fillMember has a physical volume grow with its device, and of the logical volumes
// the one that is asked for; else the guest's root; else the only one of the group
// that is no swap space. It grows by what the group gains: what was free stays free.
func (t Topology) fillMember(r *Resize, f Filesystem, device int64, e Enlarged) {
	const pvresize = "in the guest: pvresize, then lvextend --resizefs"
	g, pv, ok := t.member(f)
	fixed := cmp.Or(g.Fixed, pv.Fixed)
	switch {
	case !ok:
		r.leave(f.Device+" is a physical volume of no volume group", "in the guest: pvresize, then vgextend")
		return
	case fixed != "":
		r.leave(fmt.Sprintf("%s is a physical volume of %s, which does not grow: %s", f.Device, g.Name, fixed), pvresize)
		return
	}
	to := min((device-pv.Start)/g.Extent, maxExtents)
	if to <= pv.Extents {
		r.leave(fmt.Sprintf("the space behind %s is too little for an extent of %s, of %d KiB", f.Device, g.Name, g.Extent>>10), "give it more")
		return
	}
	r.Member = &GrownMember{f.Device, pv.UUID, g.Name, g.UUID, pv.Extents, to, g.Extent}
	v, why := t.choose(g, f, e)
	if why == "" {
		why = t.fillVolume(r, v, e)
	}
	if why != "" {
		name := "VOLUME"
		if v.Name != "" {
			name = strings.TrimPrefix(v.Name, g.Name+"/")
		}
		r.leave(why, fmt.Sprintf("name one with the size, as in --grow %s=SIZE:VOLUME, or in the guest: lvextend --resizefs --extents +%d /dev/%s/%s", strings.TrimPrefix(r.Disk, "disk"), to-pv.Extents, g.Name, name))
	}
}

// fillVolume has a logical volume grow by what the group gains, in front of what is
// free where that follows it, and its file system with it; or tells why not.
func (t Topology) fillVolume(r *Resize, v Volume, e Enlarged) (why string) {
	m, gained := r.Member, r.Member.To-r.Member.From
	grown := GrownVolume{Name: v.Name, UUID: v.UUID, From: v.Size, To: v.Size + gained*m.Size, Extent: v.Tail.Extent}
	follows := v.Tail.Device == m.Device && (v.Tail.Room >= gained || v.Tail.Extent+v.Tail.Room == m.From)
	if !follows {
		grown.Extent, grown.Apart = m.From, true
	}
	if grown.Apart && v.Tail.Contiguous {
		return v.Name + " does not grow: it is to lie in one piece, and others lie behind it"
	}
	f, ok := t.content(v.Name)
	if !ok {
		return fmt.Sprintf("%s does not grow: what is on it is not known", v.Name)
	}
	if u := useOf(f, grown.To, e.Checked); !u.filesystem {
		return fmt.Sprintf("%s does not grow: %s", v.Name, cmp.Or(u.unused, "it is a physical volume itself"))
	}
	r.Volume, r.Filesystem = &grown, &GrownFilesystem{f.Device, f.Type, f.UUID, f.Span, grown.To}
	return ""
}

// member is the volume group of a physical volume, and what that has of it.
func (t Topology) member(f Filesystem) (Group, PhysicalVolume, bool) {
	for _, g := range t.Groups {
		for _, m := range g.Members {
			if m.Device == f.Device {
				return g, m, true
			}
		}
	}
	return Group{}, PhysicalVolume{}, false
}

// content is what a volume holds.
func (t Topology) content(name string) (Filesystem, bool) {
	i := slices.IndexFunc(t.Filesystems, func(f Filesystem) bool { return f.Device == name })
	if i < 0 {
		return Filesystem{}, false
	}
	return t.Filesystems[i], true
}

// choose is the logical volume that grows with a physical one, or why none does: the
// one that was meant, as far as that is known.
func (t Topology) choose(g Group, on Filesystem, e Enlarged) (v Volume, why string) {
	all := slices.DeleteFunc(slices.Clone(t.Volumes), func(v Volume) bool { return v.Group != g.UUID })
	named := slices.DeleteFunc(slices.Clone(all), func(v Volume) bool { return v.Name != e.Volume && v.Name != g.Name+"/"+e.Volume })
	switch {
	case e.Volume != "" && len(named) == 0:
		return Volume{}, fmt.Sprintf("there is no %s in the volume group %s, which has %s", e.Volume, g.Name, list(all))
	case e.Volume != "":
		v = named[0]
	default:
		v, why = t.meant(all, on, e)
	}
	switch {
	case why != "":
		return Volume{}, fmt.Sprintf("of the volume group %s %s", g.Name, why)
	case v.Problem != "" || v.Fixed != "":
		return v, fmt.Sprintf("%s does not grow: %s", v.Name, v.Problem+v.Fixed)
	case v.Tail == nil:
		return v, fmt.Sprintf("%s does not grow: where it ends is not known", v.Name)
	case slices.Contains(e.Growing, v.Name):
		return v, fmt.Sprintf("%s grows with another disk already", v.Name)
	}
	return v, ""
}

// meant is the volume that grows when none is named, of those on a physical volume.
func (t Topology) meant(all []Volume, on Filesystem, e Enlarged) (Volume, string) {
	isSwap := func(v Volume) bool { f, _ := t.content(v.Name); return f.Type == "swap" }
	full := slices.DeleteFunc(slices.Clone(all), isSwap)
	here := slices.DeleteFunc(slices.Clone(full), func(v Volume) bool { return len(v.On) > 0 && !slices.Contains(v.On, on.Device) })
	if i := slices.IndexFunc(here, func(v Volume) bool { return v.Name == e.Root }); i >= 0 {
		return here[i], ""
	}
	switch {
	case len(full) == 0:
		return Volume{}, "no logical volume grows: it has " + list(all)
	case len(full) > 1:
		return Volume{}, "it is not clear which logical volume is to grow: it has " + list(full)
	case len(here) == 0:
		return Volume{}, fmt.Sprintf("no logical volume lies on %s: it has %s", on.Device, list(full))
	}
	return here[0], ""
}

// lastVolume is what the logical volume holds that grows with a physical one.
func (t Topology) lastVolume(f Filesystem, e Enlarged) Filesystem {
	g, _, ok := t.member(f)
	if !ok {
		return Filesystem{}
	}
	v, why := t.choose(g, f, e)
	if why != "" {
		return Filesystem{}
	}
	found, _ := t.content(v.Name)
	return found
}

// maxListed bounds how many volumes are named in a sentence.
const maxListed = 10

func list(all []Volume) string {
	var names []string
	for _, v := range all[:min(len(all), maxListed)] {
		names = append(names, v.Name)
	}
	if len(all) > maxListed {
		names = append(names, fmt.Sprintf("%d more", len(all)-maxListed))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
