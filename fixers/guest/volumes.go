package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest/lvm"
	"hyper2kvm/fixers/guest/md"
)

// maxVolumes bounds the volumes of one guest; some have a hundred.
const maxVolumes = 1000

// LVMMember is blkid's name of a physical volume of LVM.
const LVMMember = "LVM2_member"

// maxLayers bounds how volumes lie on each other: LVM on an array is two layers.
const maxLayers = 4

// ReadVolumes adds to a topology whose file systems are known the volumes that are
// made of some of them, by what those say; then what is made of these, and so on.
// Both engines use it, so that they name volumes alike. read reads a device of the
// topology. open is asked to open a volume without a problem, as far as the engine
// can, and to add to the file systems what it holds. What is encrypted is such a
// volume if one of the keys is for it.
func (t *Topology) ReadVolumes(ctx context.Context, keys *Keyring, read func(device string) io.ReaderAt, open func(*Volume) error) error {
	r := volumeReader{read: read, topology: t, keys: keys, known: map[string]bool{}, opened: map[string]bool{}, lvm: newAssembly()}
	for range maxLayers {
		more, err := r.readMembers(ctx)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		t.Volumes = r.volumes()
		for i := range t.Volumes {
			v := &t.Volumes[i]
			if v.Problem != "" || v.Size == 0 || r.opened[v.Name] {
				continue
			}
			r.opened[v.Name] = true
			err := open(v)
			if err == nil {
				err = r.partitioned(v)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", v.Name, err)
			}
		}
	}
	t.Groups = r.lvm.list()
	return nil
}

// volumeReader has read what volumes are made of.
type volumeReader struct {
	topology *Topology
	read     func(device string) io.ReaderAt
	known    map[string]bool // devices that were read
	opened   map[string]bool // volumes that the engine was asked to open, by name
	keys     *Keyring
	members  []md.Device
	lvm      assembly
	locked   []Volume
}

// readMembers reads what is new among the file systems, and tells whether that is
// a part of a volume.
func (r *volumeReader) readMembers(ctx context.Context) (more bool, err error) {
	for _, f := range r.topology.Filesystems {
		if r.known[f.Device] {
			continue
		}
		r.known[f.Device] = true
		switch f.Type {
		case ArrayMember:
			more, err = true, r.readArray(f)
		case LVMMember:
			more, err = true, r.readGroup(f)
		case LUKSContainer:
			more, err = true, r.readLUKS(ctx, f)
		}
		if err != nil {
			return more, fmt.Errorf("%s: %w", f.Device, err)
		}
	}
	for i := range r.topology.Filesystems {
		f := &r.topology.Filesystems[i]
		f.Group = r.lvm.groupOf(f.Device)
	}
	return more, nil
}

// problem notes what could not be read of a device.
func (r *volumeReader) problem(device string, err error) {
	r.topology.Problems = append(r.topology.Problems, Problem{device, err.Error()})
}

func (r *volumeReader) readGroup(f Filesystem) error {
	m, err := lvm.Read(r.read(f.Device), f.Size)
	if errors.Is(err, lvm.ErrMetadata) {
		r.problem(f.Device, err)
		m.Fixed = "its metadata is damaged"
	} else if err != nil {
		return err
	}
	r.lvm.add(f.Device, f.Size, m)
	return nil
}

// volumes are all that is made of the members that were read, by name. What was
// opened stays as it is.
func (r *volumeReader) volumes() []Volume {
	all := slices.DeleteFunc(slices.Clone(r.topology.Volumes), func(v Volume) bool { return !r.opened[v.Name] })
	for _, v := range slices.Concat(r.arrays(), r.locked, r.lvm.volumes()) {
		if !r.opened[v.Name] {
			all = append(all, v)
		}
	}
	slices.SortStableFunc(all, func(x, y Volume) int { return cmp.Compare(x.Name, y.Name) })
	closeNamesakes(all)
	if n := len(all); n > maxVolumes {
		r.topology.Problems = append(r.topology.Problems, Problem{all[maxVolumes].Name, fmt.Sprintf("of %d volumes the first %d are read", n, maxVolumes)})
		all = all[:maxVolumes]
	}
	return all
}

// closeNamesakes gives to volumes of one name a problem.
func closeNamesakes(all []Volume) {
	named := map[string]int{}
	for _, v := range all {
		named[v.Name]++
	}
	for i := range all {
		if v := &all[i]; named[v.Name] > 1 && v.Problem == "" {
			v.Problem = fmt.Sprintf("%d volumes are named %s", named[v.Name], v.Name)
			v.Unsupported, v.Segments, v.Fixed, v.Tail = "", nil, "", nil
		}
	}
}

// assembly puts together what each physical volume says.
type assembly struct {
	on     map[string][]string   // devices, by the UUID that a physical volume has
	sizes  map[string]int64      // of the devices, bytes
	atEnd  map[string]bool       // devices with metadata at their ends
	fixed  map[string]string     // devices that forbid that their group grows, and why
	groups map[string]*lvm.Group // the newest of each, by UUID
	aged   map[string]bool       // groups of which there are older ones
}

func newAssembly() assembly {
	return assembly{on: map[string][]string{}, sizes: map[string]int64{}, atEnd: map[string]bool{}, fixed: map[string]string{}, groups: map[string]*lvm.Group{}, aged: map[string]bool{}}
}

func (a *assembly) add(device string, size int64, m lvm.Member) {
	a.sizes[device], a.atEnd[device], a.fixed[device] = size, m.AtEnd, m.Fixed
	if m.UUID != "" {
		a.on[m.UUID] = append(a.on[m.UUID], device)
	}
	if m.Group == nil {
		return
	}
	known := a.groups[m.Group.UUID]
	a.aged[m.Group.UUID] = a.aged[m.Group.UUID] || known != nil && known.Seq != m.Group.Seq
	if known == nil || known.Seq < m.Group.Seq {
		a.groups[m.Group.UUID] = m.Group
	}
}

// groupOf is the UUID of the group that counts a device among its members.
func (a *assembly) groupOf(device string) string {
	for id, g := range a.groups {
		for _, member := range g.Members {
			if slices.Contains(a.on[member.UUID], device) {
				return id
			}
		}
	}
	return ""
}

// named counts the groups of each name.
func (a *assembly) named() map[string]int {
	named := map[string]int{}
	for _, g := range a.groups {
		named[g.Name]++
	}
	return named
}

func (a *assembly) volumes() []Volume {
	named := a.named()
	var all []Volume
	for _, id := range slices.Sorted(maps.Keys(a.groups)) {
		g := a.groups[id]
		for _, v := range g.Volumes {
			all = append(all, a.volume(g, v, named[g.Name]))
		}
	}
	return all
}

// volume is one of a group whose name so many have.
func (a *assembly) volume(g *lvm.Group, v lvm.Volume, named int) Volume {
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
	if named > 1 {
		out.Problem = fmt.Sprintf("%d volume groups are named %s", named, g.Name)
	}
	if out.Problem == "" {
		out.Segments, out.Problem = a.segments(v)
	}
	if out.Problem == "" {
		out.Fixed, out.Tail = v.Fixed, a.tail(v)
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
