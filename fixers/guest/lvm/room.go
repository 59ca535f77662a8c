package lvm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// run is some extents of a physical volume, one after the other.
type run struct{ first, count int64 }

// taken are the extents that volumes have, hidden ones too.
type taken struct {
	runs    map[string][]run // by the name that a physical volume has in the text
	problem string           // why it is not known which are free
}

// takenExtents goes through the segments of all volumes. All that lies on physical
// volumes is of one type, but for what moves from one to another: that is not to be
// disturbed.
//
// Source: LVM2 lib/format_text/export.c, out_areas; lib/metadata/pv_map.c.
func takenExtents(lvs []*section, members map[string]member) taken {
	t := taken{runs: map[string][]run{}}
	for _, lv := range lvs {
		for _, s := range lv.sections {
			if err := t.add(s, members); err != nil {
				t.problem = fmt.Sprintf("what its volume %.100s takes is not known: %v", lv.name, err)
				return t
			}
		}
	}
	for name, runs := range t.runs {
		slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.first, b.first) })
		next := int64(0)
		for _, r := range runs {
			if r.first < next || r.count < 1 || r.first+r.count > members[name].extents {
				t.problem = "its volumes lie on each other, or behind an end"
			}
			next = r.first + r.count
		}
	}
	return t
}

// add takes the extents of a segment.
func (t taken) add(s *section, members map[string]member) error {
	if kind := s.one("type"); kind != "striped" {
		onMember := func(word string) bool { _, ok := members[word]; return ok }
		if slices.ContainsFunc(s.settings, func(set Setting) bool { return slices.ContainsFunc(set.Values, onMember) }) {
			return fmt.Errorf("a segment of type %q", kind)
		}
		return nil
	}
	count, err := s.number("extent_count", maxExtents)
	if err != nil {
		return err
	}
	stripes := s.list("stripes")
	n := int64(len(stripes) / 2)
	for ; len(stripes) >= 2; stripes = stripes[2:] {
		first, err := number(stripes[1], maxExtents)
		if err != nil {
			return err
		}
		if _, ok := members[stripes[0]]; ok {
			t.runs[stripes[0]] = append(t.runs[stripes[0]], run{first, count / n})
		}
	}
	return nil
}

// physical are the physical volumes, by UUID.
func (t taken) physical(members map[string]member) (all []Physical) {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		m := members[name]
		p := Physical{UUID: m.uuid, Start: m.start, Extents: m.extents, Free: m.extents, Closed: m.closed}
		for _, r := range t.runs[name] {
			p.Free -= r.count
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b Physical) int { return cmp.Compare(a.UUID, b.UUID) })
	return all
}

// tail is where a linear volume ends, and what is free behind it.
func (t taken) tail(lv, vg *section, members map[string]member) Tail {
	last := lastSegment(lv)
	on := last.list("stripes")
	first, _ := number(on[1], maxExtents) // read before
	count, _ := last.number("extent_count", maxExtents)
	out := Tail{Member: members[on[0]].uuid, Extent: first + count}
	policy := cmp.Or(lv.one("allocation_policy"), vg.one("allocation_policy"))
	out.Contiguous = policy == "contiguous"
	next, runs := members[on[0]].extents, t.runs[on[0]]
	if i, _ := slices.BinarySearchFunc(runs, out.Extent, func(r run, at int64) int { return cmp.Compare(r.first, at) }); i < len(runs) {
		next = runs[i].first
	}
	out.Room = next - out.Extent
	return out
}

// lastSegment is where a volume ends.
func lastSegment(lv *section) *section { return lv.sections[len(lv.sections)-1] }

// fixedGroup is why LVM alone may change a group.
//
// Source: LVM2 lib/format_text/flags.c; lvmlockd(8).
func fixedGroup(vg *section, members map[string]member) string {
	status, lock := vg.list("status"), vg.one("lock_type")
	for _, state := range []string{"EXPORTED", "CLUSTERED", "PARTIAL", "PVMOVE"} {
		if slices.Contains(status, state) || slices.Contains(vg.list("flags"), state) {
			return "it is marked " + state
		}
	}
	switch {
	case !slices.Contains(status, "RESIZEABLE") || !slices.Contains(status, "WRITE"):
		return "it is not to be changed"
	case lock != "" && lock != "none":
		return fmt.Sprintf("machines share it, with locks of %.100s", lock)
	case cmp.Or(vg.one("format"), "lvm2") != "lvm2":
		return fmt.Sprintf("its format is %.100s", vg.one("format"))
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if m := members[name]; m.missing {
			return fmt.Sprintf("its physical volume %.100s was missing when it was last changed", m.uuid)
		}
	}
	return ""
}

// fixedVolume is why a volume without a problem does not grow: it is of a kind that
// does not, or others stand on it.
func fixedVolume(lv *section, v Volume, under map[string]string) string {
	status := lv.list("status")
	switch {
	case v.Problem != "":
		return ""
	case len(v.Segments) == 0:
		return "it has no extents"
	case slices.ContainsFunc(v.Segments, func(s Segment) bool { return s.Chunk > 0 }):
		return "it is striped"
	case !slices.Contains(status, "WRITE"):
		return "it is read-only"
	case slices.Contains(status, "LOCKED"):
		return "it is locked"
	}
	return under[lv.name]
}

// underOthers are the volumes that others name, with what that means.
func underOthers(lvs []*section) map[string]string {
	under := map[string]string{}
	for _, lv := range lvs {
		for _, s := range lv.sections {
			snapshot := s.one("type") == "snapshot"
			for _, set := range s.settings {
				for _, word := range set.Values {
					switch {
					case snapshot && set.Name == "origin":
						under[word] = "it has snapshots"
					case set.Name != "type" && under[word] == "":
						under[word] = "another volume stands on it"
					}
				}
			}
		}
	}
	return under
}
