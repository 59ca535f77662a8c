package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// ring is the beginning of a device of 20 MiB, in memory.
type ring struct{ data []byte }

func (r *ring) ReadAt(p []byte, off int64) (int, error)  { return copy(p, r.data[off:]), nil }
func (r *ring) WriteAt(p []byte, off int64) (int, error) { return copy(r.data[off:], p), nil }
func (r *ring) Size() int64                              { return 20 * mib }

func alone(seq int) string {
	return fmt.Sprintf(`vg {
id = "g"
seqno = %d
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = 2048	# 1 Megabyte
physical_volumes {
pv0 {
id = "abcdef-ghij-klmn-opqr-stuv-wxyz-012345"
status = ["ALLOCATABLE"]
dev_size = 20480	# 10 Megabytes
pe_start = 2048
pe_count = 9	# 9 Megabytes
}
}
logical_volumes {
root {
id = "r"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {
start_extent = 0
extent_count = 4	# 4 Megabytes
type = "striped"
stripe_count = 1	# linear
stripes = [
"pv0", 0
]
}
}
}
}
`, seq)
}

var plan = Growth{Group: "g", Member: "abcdef-ghij-klmn-opqr-stuv-wxyz-012345", Size: 20 * mib, From: 9, Extents: 19, Volume: "r", At: 4, Count: 10}

// pv is a physical volume in memory, with one of our texts in each of its areas.
func pv(area, offset int64, texts ...string) *ring {
	return &ring{label(area, offset, texts...)[:256<<10]}
}

func TestAllElseOfTheTextStays(t *testing.T) {
	r := pv(64<<10, 512, alone(7))
	if err := Grow([]Device{r}, plan); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("seqno = 7", "seqno = 8", "dev_size = 20480	# 10 Megabytes", "dev_size = 40960",
		"pe_count = 9	# 9 Megabytes", "pe_count = 19", "extent_count = 4	# 4 Megabytes", "extent_count = 14").Replace(alone(7))
	if !bytes.Contains(r.data, []byte(want)) {
		t.Errorf("the new text is not there")
	}
	if !bytes.Contains(r.data, []byte(alone(7))) {
		t.Errorf("the old text was written over")
	}
	m, err := Read(r, r.Size())
	if err != nil || m.Group.Seq != 8 || m.Group.Volumes[0].Size != 14*mib || m.Group.Members[0].Extents != 19 {
		t.Errorf("Read = %+v, %v", m, err)
	}
}

func TestAGroupGrowsOverItsRingsEnd(t *testing.T) {
	size := int64(len(alone(7)))
	for offset := int64(512); offset < 4096; offset += 512 {
		r := pv(4096, offset, alone(7))
		if err := Grow([]Device{r}, plan); err != nil {
			t.Fatalf("from %d of %d, a text of %d: %v", offset, 4096, size, err)
		}
		if m, err := Read(r, r.Size()); err != nil || m.Group.Seq != 8 {
			t.Errorf("from %d: Read = %+v, %v", offset, m, err)
		}
	}
}

func TestAGroupThatDoesNotGrowIsNotWritten(t *testing.T) {
	text := func(old, now string) string { return strings.Replace(alone(7), old, now, 1) }
	grow := func(change func(*Growth)) Growth { g := plan; change(&g); return g }
	damaged := pv(64<<10, 512, alone(7), alone(7))
	damaged.data[4096+64<<10+600] ^= 1
	half := pv(64<<10, 512, alone(7))
	half.data[4096+precommitted] = 1
	copy(half.data[4096:], sealed(half.data[4096:4096+areaHeader]))
	for _, test := range []struct {
		name   string
		device *ring
		growth Growth
		want   error
	}{
		{"another group", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.Group = "h" }), ErrChanged},
		{"another member", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.Member = "m" }), ErrChanged},
		{"another size", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.From = 8 }), ErrChanged},
		{"smaller", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.Extents = 8 }), ErrChanged},
		{"behind the end", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.Extents = 20 }), ErrChanged},
		{"another volume", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.Volume = "s" }), ErrChanged},
		{"over itself", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.At = 3 }), ErrChanged},
		{"into the middle", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.At = 5 }), ErrChanged},
		{"by more than there is", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.Count = 16 }), ErrChanged},
		{"by nothing", pv(64<<10, 512, alone(7)), grow(func(g *Growth) { g.Count = 0 }), ErrChanged},
		{"a striped volume", pv(64<<10, 512, text(`stripes = [
"pv0", 0`, `stripe_size = 128 stripes = [ "pv0", 0, "pv0", 2`)), plan, ErrChanged},
		{"a read-only volume", pv(64<<10, 512, text(`"WRITE", "VISIBLE"`, `"VISIBLE"`)), plan, ErrChanged},
		{"an exported group", pv(64<<10, 512, text(`"WRITE"`, `"WRITE", "EXPORTED"`)), plan, ErrChanged},
		{"a shared group", pv(64<<10, 512, text("seqno", `lock_type = "sanlock" seqno`)), plan, ErrChanged},
		{"a closed physical volume", pv(64<<10, 512, text(`"ALLOCATABLE"`, "")), plan, ErrChanged},
		{"a contiguous volume elsewhere", pv(64<<10, 512, text("segment_count", `allocation_policy = "contiguous" segment_count`)), grow(func(g *Growth) { g.At = 9 }), ErrChanged},
		{"a volume that moves", pv(64<<10, 512, text("logical_volumes {", `logical_volumes { pvmove0 { segment1 { extent_count = 1 type = "mirror" mirrors = ["pv0", 8, "pv0", 7] } }`)), plan, ErrChanged},
		{"volumes on each other", pv(64<<10, 512, text("logical_volumes {", `logical_volumes { b { segment1 { extent_count = 1 type = "striped" stripes = ["pv0", 3] } }`)), plan, ErrChanged},
		{"copies of different age", pv(64<<10, 512, alone(7), alone(6)), plan, ErrMetadata},
		{"an area that is too small", pv(1024, 512, alone(7)), plan, ErrMetadata},
		{"a change that was not finished", half, plan, ErrMetadata},
		{"a damaged copy", damaged, plan, ErrMetadata},
	} {
		before := bytes.Clone(test.device.data)
		if err := Grow([]Device{test.device}, test.growth); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if !bytes.Equal(before, test.device.data) {
			t.Errorf("%s: it was written", test.name)
		}
		m, err := Read(test.device, test.device.Size())
		if told := err != nil || m.Fixed != ""; told != errors.Is(test.want, ErrMetadata) {
			t.Errorf("%s: whoever reads it is told %q, %v", test.name, m.Fixed, err)
		}
	}
}

// sealed is an area's header with its checksum.
func sealed(h []byte) []byte {
	n := sum(h[4:])
	return append([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, h[4:]...)
}
