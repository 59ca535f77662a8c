package guest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest/lvm"
)

// Group is a volume group of LVM's, as far as it matters for what grows.
type Group struct {
	Name    string           `json:"name"`
	UUID    string           `json:"uuid"`
	Extent  int64            `json:"extent"` // bytes of each of the pieces that volumes are made of
	Members []PhysicalVolume `json:"members"`
	Fixed   string           `json:"fixed,omitempty"` // why nothing in it grows
}

// PhysicalVolume is a device that a volume group lies on.
type PhysicalVolume struct {
	Device  string `json:"device"`
	UUID    string `json:"uuid"`
	Start   int64  `json:"start"` // of the first extent, bytes
	Extents int64  `json:"extents"`
	Free    int64  `json:"free"`            // of the extents
	Fixed   string `json:"fixed,omitempty"` // why it does not grow
}

// Tail is where a logical volume ends on one of the devices that it lies on.
type Tail struct {
	Device     string `json:"device"`
	Extent     int64  `json:"extent"`               // the first one behind the volume
	Room       int64  `json:"room"`                 // extents from that one on that are free
	Contiguous bool   `json:"contiguous,omitempty"` // it is to lie in one piece
}

// list are the groups, by UUID.
func (a *assembly) list() (all []Group) {
	named := a.named()
	for _, id := range slices.Sorted(maps.Keys(a.groups)) {
		g := a.groups[id]
		all = append(all, a.group(g, named[g.Name]))
	}
	return all
}

// group is one whose name so many have.
func (a *assembly) group(g *lvm.Group, named int) Group {
	out := Group{Name: g.Name, UUID: g.UUID, Extent: g.Extent, Members: []PhysicalVolume{}, Fixed: g.Fixed}
	for _, m := range g.Members {
		on := a.on[m.UUID]
		switch {
		case len(on) == 0:
			out.Fixed = fmt.Sprintf("its physical volume %.100s is on none of the disks", m.UUID)
			continue
		case len(on) > 1:
			out.Fixed = fmt.Sprintf("its physical volume %.100s is there %d times: on %s", m.UUID, len(on), strings.Join(on, ", "))
		case strings.Contains(on[0], "/"):
			out.Fixed = fmt.Sprintf("a part of it lies on %s, another volume", on[0])
		case a.fixed[on[0]] != "":
			out.Fixed = fmt.Sprintf("%s: %s", on[0], a.fixed[on[0]])
		}
		pv := PhysicalVolume{Device: on[0], UUID: m.UUID, Start: m.Start, Extents: m.Extents, Free: m.Free}
		switch {
		case m.Start > a.sizes[on[0]] || m.Extents > (a.sizes[on[0]]-m.Start)/g.Extent:
			pv.Fixed = "a part of it lies behind the end of the device"
		case a.atEnd[on[0]]:
			pv.Fixed = "it keeps a copy of LVM's metadata at its end"
		case m.Closed:
			pv.Fixed = "LVM is to give no more of it to volumes"
		}
		out.Members = append(out.Members, pv)
	}
	switch {
	case a.aged[g.UUID]:
		out.Fixed = "what its physical volumes say of it is of different age"
	case named > 1:
		out.Fixed = fmt.Sprintf("%d volume groups have its name", named)
	}
	return out
}

// tail is where a volume ends that has no problem.
func (a *assembly) tail(v lvm.Volume) *Tail {
	if v.Tail.Member == "" {
		return nil
	}
	return &Tail{a.on[v.Tail.Member][0], v.Tail.Extent, v.Tail.Room, v.Tail.Contiguous}
}

// GrowVolumes changes a volume group as it was planned, whose device has grown, and the
// topology with it. open opens a device of the topology. A group that is not the
// topology's is ErrConflict.
func (t *Topology) GrowVolumes(r Resize, open func(device string) Bytes) error {
	if r.Member == nil {
		return nil
	}
	i := slices.IndexFunc(t.Groups, func(g Group) bool { return g.UUID == r.Member.GroupUUID && g.Fixed == "" })
	if i < 0 {
		return fmt.Errorf("the volume group %s: %w", r.Member.Group, ErrConflict)
	}
	var devices []lvm.Device
	for _, m := range t.Groups[i].Members {
		devices = append(devices, sized{open(m.Device), t.sizeOf(m.Device)})
	}
	err := lvm.Grow(devices, r.growth(t.sizeOf(r.Member.Device)))
	if errors.Is(err, lvm.ErrChanged) {
		err = fmt.Errorf("%w: %w", ErrConflict, err)
	}
	if err == nil {
		err = t.rereadGroup(i, open)
	}
	if err != nil {
		return fmt.Errorf("the volume group %s: %w", r.Member.Group, err)
	}
	return nil
}

// growth is what is planned in LVM's terms, for a device of a size.
func (r Resize) growth(size int64) lvm.Growth {
	g := lvm.Growth{Group: r.Member.GroupUUID, Member: r.Member.UUID, Size: size, From: r.Member.From, Extents: r.Member.To}
	if v := r.Volume; v != nil {
		g.Volume, g.At, g.Count = v.UUID, v.Extent, r.Member.To-r.Member.From
	}
	return g
}

// sized is a device of a size, bytes.
type sized struct {
	Bytes
	size int64
}

func (s sized) Size() int64 { return s.size }

func (t *Topology) sizeOf(device string) int64 {
	for _, f := range t.Filesystems {
		if f.Device == device {
			return f.Size
		}
	}
	return 0
}

// rereadGroup reads a group that was changed.
func (t *Topology) rereadGroup(i int, open func(device string) Bytes) error {
	a := newAssembly()
	for _, m := range t.Groups[i].Members {
		size := t.sizeOf(m.Device)
		read, err := lvm.Read(io.ReaderAt(open(m.Device)), size)
		if err != nil {
			return fmt.Errorf("its new metadata: %w", err)
		}
		a.add(m.Device, size, read)
	}
	t.Groups, t.Volumes, t.Filesystems = slices.Clone(t.Groups), slices.Clone(t.Volumes), slices.Clone(t.Filesystems) // others may have the old lists
	for _, g := range a.list() {
		t.Groups[i] = g
	}
	for _, now := range a.volumes() {
		for j := range t.Volumes {
			if v := &t.Volumes[j]; v.Group == now.Group && v.UUID == now.UUID && v.Problem == "" {
				*v = now
			}
		}
		for j := range t.Filesystems {
			if f := &t.Filesystems[j]; f.Device == now.Name {
				f.Size = now.Size
			}
		}
	}
	return nil
}
