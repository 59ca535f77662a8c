package lvm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Group is a volume group, as one copy of its metadata has it.
type Group struct {
	Name    string
	UUID    string
	Seq     int64      // grows with every change of the group
	Extent  int64      // bytes of each of the pieces that volumes are made of
	Members []Physical // its physical volumes, by UUID
	Volumes []Volume   // those that have a device, by name
	// Fixed is why nobody but LVM may change the group; "" if Grow may.
	Fixed string
}

// Physical is a physical volume as its group describes it.
type Physical struct {
	UUID    string
	Start   int64 // of its first extent, bytes
	Extents int64
	Free    int64 // of its extents
	Closed  bool  // no more of them are to be given to volumes
}

// Volume is a logical volume.
type Volume struct {
	Name string
	UUID string
	Size int64    // bytes
	On   []string // UUIDs of the physical volumes under it, in its order; of plain volumes alone
	// Segments are where its bytes lie, in order; of a plain volume alone.
	Segments []Segment
	// Problem is why its device shows more, or less, than what lies at its
	// extents: all that is neither linear nor striped. "" for a plain volume.
	Problem string
	// Fixed is why a plain volume does not grow, and Tail where another one may.
	Fixed string
	Tail  Tail
}

// Tail is where a linear volume ends.
type Tail struct {
	Member     string // UUID of the physical volume
	Extent     int64  // the first one behind it there
	Room       int64  // extents from that one on that are free
	Contiguous bool   // it grows nowhere else: so it was made
}

// parseGroup reads the text of a group's metadata.
func parseGroup(text []byte) (*Group, error) {
	top, err := parseText(text)
	if err != nil {
		return nil, err
	}
	if len(top.sections) != 1 || !validName(top.sections[0].name) {
		return nil, fmt.Errorf("%w: a text of %d groups, or of one without a usable name", ErrMetadata, len(top.sections))
	}
	vg := top.sections[0]
	g := &Group{Name: vg.name, UUID: vg.one("id")}
	if g.Seq, err = vg.number("seqno", maxSeq); err != nil {
		return nil, err
	}
	extent, err := vg.number("extent_size", maxExtentSize)
	if err != nil {
		return nil, err
	}
	members := map[string]member{}
	for _, pv := range vg.within("physical_volumes") {
		m, err := readMember(pv, extent*sector)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pv.name, err)
		}
		members[pv.name] = m
	}
	g.Extent = extent * sector
	lvs := vg.within("logical_volumes")
	taken := takenExtents(lvs, members)
	g.Members, g.Fixed = taken.physical(members), cmp.Or(fixedGroup(vg, members), taken.problem)
	problems, hidden := snapshots(lvs)
	under := underOthers(lvs)
	slices.SortStableFunc(lvs, func(a, b *section) int { return strings.Compare(a.name, b.name) })
	for _, lv := range lvs {
		problem := problems[lv.name]
		if hidden[lv.name] || problem == "" && !slices.Contains(lv.list("status"), "VISIBLE") {
			continue
		}
		if !validName(lv.name) {
			return nil, fmt.Errorf("%w: a volume named %.100q", ErrMetadata, lv.name)
		}
		v, err := readVolume(lv, extent*sector, members)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", lv.name, err)
		}
		if problem != "" {
			v.Problem = problem
		}
		if v.Problem != "" {
			v.Segments = nil
		}
		v.Fixed = fixedVolume(lv, v, under)
		if v.Problem == "" && v.Fixed == "" {
			v.Tail = taken.tail(lv, vg, members)
		}
		g.Volumes = append(g.Volumes, v)
	}
	return g, nil
}

// validName tells whether a name can be that of a folder or a device: it becomes
// part of a path. Words of the text have no blanks and no quotes.
//
// Source: lvm(8), "VALID NAMES".
func validName(name string) bool {
	return name != "." && name != ".." && !strings.HasPrefix(name, "-") && len(name) < 128 && !strings.ContainsAny(name, "/:@")
}

// snapshots tells what is wrong with volumes that look plain: the stores of
// snapshots, which appear as volumes of their own, and the origin of a snapshot
// that is merged into it as soon as it is active. What says so is a volume
// without a device, which is hidden.
func snapshots(lvs []*section) (problems map[string]string, hidden map[string]bool) {
	problems, hidden = map[string]string{}, map[string]bool{}
	for _, lv := range lvs {
		for _, s := range lv.sections {
			if s.one("type") != "snapshot" {
				continue
			}
			hidden[lv.name] = true
			origin := s.one("origin")
			if merging := s.one("merging_store"); merging != "" {
				problems[merging] = "a snapshot that is being merged into " + origin
				problems[origin] = "a snapshot is being merged into it"
				continue
			}
			problems[s.one("cow_store")] = "a snapshot of " + origin
		}
	}
	return problems, hidden
}
