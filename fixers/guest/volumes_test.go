package guest

import "testing"

func TestBytesOfAVolumeAreFoundWhereTheyLie(t *testing.T) {
	v := Volume{Segments: []Segment{
		{Size: 10, On: []Place{{"a", 100}}},
		{Size: 24, Chunk: 4, On: []Place{{"a", 200}, {"b", 300}, {"c", 400}}},
		{Size: 6, On: []Place{{"b", 0}}},
		{Size: 5, Copies: true, On: []Place{{"c", 50}, {"a", 60}}},
	}}
	for off, want := range map[int64]struct {
		at   Place
		size int64
	}{
		0: {Place{"a", 100}, 10}, 9: {Place{"a", 109}, 1}, 10: {Place{"a", 200}, 4}, 13: {Place{"a", 203}, 1}, 14: {Place{"b", 300}, 4},
		18: {Place{"c", 400}, 4}, 22: {Place{"a", 204}, 4}, 33: {Place{"c", 407}, 1}, 34: {Place{"b", 0}, 6}, 39: {Place{"b", 5}, 1},
		40: {Place{"c", 50}, 5}, 44: {Place{"c", 54}, 1}, 45: {},
	} {
		if at, size := v.Find(off); at != want.at || size != want.size {
			t.Errorf("Find(%d) = %v, %d, want %v", off, at, size, want)
		}
	}
}

func TestVolumesOfOneNameAreClosed(t *testing.T) {
	all := []Volume{{Name: "md/0", Segments: []Segment{{Size: 1}}}, {Name: "md/0", Problem: "a member is missing"}, {Name: "md/1", Unsupported: "left to md"}, {Name: "md/1"}, {Name: "md/2", Segments: []Segment{{Size: 1}}}}
	closeNamesakes(all)
	for i, want := range []string{"2 volumes are named md/0", "a member is missing", "2 volumes are named md/1", "2 volumes are named md/1", ""} {
		if v := all[i]; v.Problem != want || v.Unsupported != "" || (v.Segments == nil) != (want != "") {
			t.Errorf("%+v, want the problem %q", v, want)
		}
	}
}
