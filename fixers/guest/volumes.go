package guest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest/lvm"
)

// maxVolumes bounds the logical volumes of one guest; some have a hundred.
const maxVolumes = 1000

// LVMMember is blkid's name of a physical volume of LVM.
const LVMMember = "LVM2_member"

// ReadVolumes adds the logical volumes to a topology whose file systems are
// known, by what the physical volumes among them say. Both engines use it, so
// that they name volumes alike; which of them they open is their own affair.
// open reads a device of the topology.
func (t *Topology) ReadVolumes(open func(device string) io.ReaderAt) error {
	a := assembly{on: map[string][]string{}, sizes: map[string]int64{}, groups: map[string]*lvm.Group{}, named: map[string]int{}}
	for _, f := range t.Filesystems {
		if f.Type != LVMMember {
			continue
		}
		m, err := lvm.Read(open(f.Device), f.Size)
		if errors.Is(err, lvm.ErrMetadata) {
			t.Problems = append(t.Problems, Problem{f.Device, err.Error()})
		} else if err != nil {
			return fmt.Errorf("%s: %w", f.Device, err)
		}
		a.sizes[f.Device] = f.Size
		a.add(f.Device, m)
	}
	for i := range t.Filesystems {
		t.Filesystems[i].Group = a.groupOf(t.Filesystems[i].Device)
	}
	t.Volumes = a.volumes()
	if n := len(t.Volumes); n > maxVolumes {
		t.Problems = append(t.Problems, Problem{t.Volumes[maxVolumes].Name, fmt.Sprintf("of %d logical volumes the first %d are read", n, maxVolumes)})
		t.Volumes = t.Volumes[:maxVolumes]
	}
	return nil
}

// assembly puts together what each physical volume says.
type assembly struct {
	on     map[string][]string   // devices, by the UUID that a physical volume has
	sizes  map[string]int64      // of the devices, bytes
	groups map[string]*lvm.Group // the newest of each, by UUID
	named  map[string]int        // how many groups have a name
}

func (a *assembly) add(device string, m lvm.Member) {
	if m.UUID != "" {
		a.on[m.UUID] = append(a.on[m.UUID], device)
	}
	if m.Group == nil {
		return
	}
	known := a.groups[m.Group.UUID]
	if known == nil || known.Seq < m.Group.Seq {
		a.groups[m.Group.UUID] = m.Group
	}
}

// groupOf is the UUID of the group that counts a device among its members.
func (a *assembly) groupOf(device string) string {
	for id, g := range a.groups {
		for _, member := range g.Members {
			if slices.Contains(a.on[member], device) {
				return id
			}
		}
	}
	return ""
}

func (a *assembly) volumes() []Volume {
	for _, g := range a.groups {
		a.named[g.Name]++
	}
	var all []Volume
	for _, id := range slices.Sorted(maps.Keys(a.groups)) {
		g := a.groups[id]
		for _, v := range g.Volumes {
			all = append(all, a.volume(g, v))
		}
	}
	slices.SortStableFunc(all, func(x, y Volume) int { return cmp.Compare(x.Name, y.Name) })
	return all
}

func (a *assembly) volume(g *lvm.Group, v lvm.Volume) Volume {
	out := Volume{Name: g.Name + "/" + v.Name, UUID: v.UUID, Group: g.UUID, Size: v.Size, On: []string{}, Problem: v.Problem}
	for _, member := range v.On {
		devices := a.on[member]
		out.On = append(out.On, devices...)
		switch {
		case len(devices) == 0:
			out.Problem = fmt.Sprintf("a part of it is on the physical volume %s, which is on none of the disks", member)
		case len(devices) > 1:
			out.Problem = fmt.Sprintf("its physical volume %s is there %d times: on %s", member, len(devices), strings.Join(devices, ", "))
		}
	}
	if n := a.named[g.Name]; n > 1 {
		out.Problem = fmt.Sprintf("%d volume groups are named %s", n, g.Name)
	}
	if out.Problem == "" {
		out.Segments, out.Problem = a.segments(v)
	}
	return out
}

// segments are where a volume lies, whose physical volumes are each there once.
func (a *assembly) segments(v lvm.Volume) (all []Segment, problem string) {
	for _, s := range v.Segments {
		out := Segment{Size: s.Size, Chunk: s.Chunk}
		for _, stripe := range s.Stripes {
			device := a.on[stripe.Member][0]
			if a.sizes[device]-s.Size/int64(len(s.Stripes)) < stripe.Start {
				return nil, "a part of it lies behind the end of " + device
			}
			out.On = append(out.On, Place{device, stripe.Start})
		}
		all = append(all, out)
	}
	return all, ""
}
