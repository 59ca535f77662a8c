package md

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Device is a member and what the topology calls the device that it is on.
type Device struct {
	On string
	Member
}

// Array is what the members of one array make together.
type Array struct {
	UUID    string
	Version string // of its superblocks
	Name    string // its own, with the host that made it in front of a colon
	Minor   int    // of version 0.90, which has no name; else -1
	Kind    string // linear, raid0, raid1 …
	Size    int64  // bytes
	On      []string
	// Stale are devices that were members and fell out: what is on them is old.
	Stale []string
	// Lacks is how many members are missing of one that is whole.
	Lacks  int
	InSync bool // else a resync is due
	// Segments are where its bytes lie, in order; none where it has a problem, or
	// only md itself can follow them.
	Segments []Segment
	Problem  string // why no engine opens it
	Unmapped string // why it has no segments, though it has no problem
}

// Segment is a run of an array's bytes.
type Segment struct {
	Size   int64 // bytes
	Chunk  int64 // that lie on one device before the next has its turn; 0 on a single one
	Copies bool  // every device has all of the bytes; the first is the one to read
	On     []Place
}

// Place is where on a device something begins.
type Place struct {
	Device string
	Start  int64 // bytes
}

// Label is the array's own name, without its host; its UUID if that is none for
// a file.
func (a Array) Label() string {
	name := a.Name[strings.IndexByte(a.Name, ':')+1:]
	if a.Minor >= 0 {
		name = strconv.Itoa(a.Minor)
	}
	if !usable.MatchString(name) {
		return a.UUID
	}
	return name
}

var usable = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,31}$`)

// Assemble puts arrays together, by UUID.
func Assemble(devices []Device) []Array {
	by := map[string][]Device{}
	for _, d := range devices {
		by[d.Array] = append(by[d.Array], d)
	}
	var all []Array
	for _, id := range slices.Sorted(maps.Keys(by)) {
		all = append(all, assemble(by[id]))
	}
	return all
}

func assemble(devices []Device) Array {
	newest := slices.MaxFunc(devices, func(a, b Device) int { return cmp.Compare(a.Events, b.Events) })
	a := Array{UUID: newest.Array, Version: newest.Version, Name: newest.Name, Minor: newest.Minor,
		Kind: kind(newest.Level), Size: newest.size(), On: []string{}, InSync: newest.InSync}
	in, stale := newest.members(devices)
	for _, d := range stale {
		a.Stale = append(a.Stale, d.On)
	}
	for _, d := range in {
		a.On = append(a.On, d.On)
		a.Problem, a.Unmapped = cmp.Or(a.Problem, d.problem), cmp.Or(a.Unmapped, d.unmapped)
		if d.shape != newest.shape || d.Version != newest.Version {
			a.Problem = fmt.Sprintf("%s and %s do not agree on what it is", newest.On, d.On)
		}
	}
	a.Problem = cmp.Or(a.Problem, a.lacking(newest, in))
	if a.Problem == "" && a.Unmapped == "" {
		a.lay(newest, in)
	}
	if a.Problem != "" {
		a.Unmapped, a.Segments = "", nil
	}
	return a
}

// members are the devices that have a place in the array, by place, and those that
// had one, and may still believe so. A device that missed one change may have been
// on its way to it: md takes it, if the newest one does not say otherwise.
//
// Source: Linux drivers/md/md.c, super_1_validate; mdadm Assemble.c.
func (newest Device) members(devices []Device) (in, stale []Device) {
	for _, d := range devices {
		switch role := newest.role(d); {
		case role == Journal, role == Spare && d.Roles[d.Number] == Spare:
		case role < 0 || d.Events+1 < newest.Events:
			stale = append(stale, d)
		default:
			in = append(in, d)
		}
	}
	slices.SortStableFunc(in, func(x, y Device) int { return cmp.Compare(newest.role(x), newest.role(y)) })
	return in, stale
}

// role is what the newest member says that another one does.
func (newest Device) role(d Device) Role {
	if d.Number >= len(newest.Roles) {
		return Spare
	}
	return newest.Roles[d.Number]
}

// lacking notes how many members are missing, and says why those that are there
// are no array.
func (a *Array) lacking(newest Device, in []Device) string {
	there, bytes := map[Role]string{}, int64(0)
	for _, d := range in {
		role := newest.role(d)
		if other, twice := there[role]; twice {
			return fmt.Sprintf("its member %d is there twice: on %s and on %s", role, other, d.On)
		}
		if int(role) >= newest.Disks {
			return fmt.Sprintf("%s is member %d of %d", d.On, role, newest.Disks)
		}
		there[role] = d.On
		if bytes += d.Length; bytes > maxSize {
			return "its members are too large"
		}
	}
	a.Lacks = newest.Disks - len(there)
	if a.Lacks <= newest.spare() {
		return ""
	}
	text := fmt.Sprintf("it lacks %d of its %d members", a.Lacks, newest.Disks)
	if len(a.Stale) > 0 {
		text += ", and out of date is what is on " + strings.Join(a.Stale, ", ")
	}
	return text
}

// spare is how many members an array can do without.
func (s shape) spare() int {
	switch s.Level {
	case 1:
		return s.Disks - 1
	case 4, 5:
		return 1
	case 6:
		return 2
	case 10:
		return max(0, s.near()*s.far()-1)
	}
	return 0
}

// near and far are how many copies RAID 10 keeps beside each other, and apart.
//
// Source: Linux drivers/md/raid10.c, setup_geo.
func (s shape) near() int { return s.Layout & 0xff }
func (s shape) far() int  { return s.Layout >> 8 & 0xff }

// Redundant tells whether the members of arrays of a kind can be out of step.
func Redundant(kind string) bool { return kind != "linear" && kind != "raid0" }

func kind(level int) string {
	switch level {
	case linear:
		return "linear"
	case multipath:
		return "multipath"
	case faulty:
		return "faulty"
	}
	return fmt.Sprintf("raid%d", level)
}
