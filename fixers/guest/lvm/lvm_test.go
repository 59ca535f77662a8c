package lvm

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// head is the first MiB of a physical volume that LVM 2.03.16 made, in a group
// with a volume of every kind: see the name of each.
func head(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/all-kinds.pv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const size = 400 << 20

// disk reads as zeros behind its head.
type disk struct{ head []byte }

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(d.head)) {
		copy(p, d.head[off:])
	}
	return len(p), nil
}

func TestWhatLVMWroteIsRead(t *testing.T) {
	m, err := Read(disk{head(t)}, size)
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := "2pEjPE-qvnH-CZev-qnFb-N09M-Mncv-dWD6Ke", "rMyJOf-Mg4L-97a3-DQr4-LovB-WYwk-nWrlTv", "7Ysp3j-wCjD-oHyB-ROMC-eD1K-aP5c-8pgGKz"
	want := Member{UUID: first, Group: &Group{Name: "all", UUID: "BaR1XX-ONZo-V8qJ-DfFs-bVht-qIML-dschvq", Seq: 20, Extent: 4 << 20,
		Members: []Physical{{first, 1 << 20, 99, 44, false}, {third, 1 << 20, 99, 98, false}, {second, 1 << 20, 99, 90, false}},
		Volumes: []Volume{
			{Name: "cached", UUID: "NQ3h6b-GzNW-L9bz-MJn4-hdku-M60M-tdTK6u", Size: 16 << 20, Problem: `a volume of type "cache"`},
			{Name: "mirror", UUID: "VUCS6y-hIOO-PrXt-sWq5-8mwu-GQsw-kG6U6z", Size: 16 << 20, Problem: `a volume of type "mirror"`},
			{Name: "orig2", UUID: "XZXEKK-qR00-ieM0-iC4S-DeuN-nQmX-rczGWl", Size: 16 << 20, On: []string{first}, Problem: "a snapshot is being merged into it"},
			{Name: "plain", UUID: "E9LmdM-NCpK-mFqC-s0S3-GFyk-ScRG-Fvz6M8", Size: 64 << 20, On: []string{first},
				Segments: []Segment{{Size: 64 << 20, Stripes: []Stripe{{first, 1 << 20}}}}, Fixed: "it has snapshots"},
			{Name: "pool", UUID: "LPymdd-fX0E-079m-Evd1-P5dB-2XR9-aCC1Fa", Size: 32 << 20, Problem: `a volume of type "thin-pool"`},
			{Name: "raid", UUID: "t3KQfe-15YI-1SI5-WEZd-pGYz-4eRo-5rM4jf", Size: 16 << 20, Problem: `a volume of type "raid1"`},
			{Name: "snap", UUID: "HFw0ve-VixS-0Yh1-UIcf-rJsT-gLro-EAe5BG", Size: 12 << 20, On: []string{first}, Problem: "a snapshot of plain"},
			{Name: "snap2", UUID: "H5joKe-QgNB-jycW-99sD-e3c4-wBm0-T6lMLK", Size: 12 << 20, On: []string{first}, Problem: "a snapshot that is being merged into orig2"},
			{Name: "thin", UUID: "sBS3EQ-oLuo-pO43-lmnH-KpnS-UJY8-eGOS14", Size: 100 << 20, Problem: `a volume of type "thin"`},
		}}}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
}

// label writes the head of a physical volume that keeps these texts, one in
// each of its metadata areas of a size, from an offset in the area.
func label(areaSize, offset int64, texts ...string) []byte {
	le := binary.LittleEndian
	head := make([]byte, 4<<20)
	s := head[sector : 2*sector]
	copy(s, "LABELONE")
	le.PutUint64(s[8:], 1)
	le.PutUint32(s[20:], 32)
	copy(s[24:], "LVM2 001")
	copy(s[32:], "abcdefghijklmnopqrstuvwxyz012345")
	le.PutUint64(s[72:], 3<<20) // the data
	for i, text := range texts {
		start := 4096 + int64(i)*areaSize
		le.PutUint64(s[104+16*i:], uint64(start))
		le.PutUint64(s[112+16*i:], uint64(areaSize))
		h := head[start : start+areaHeader]
		copy(h[4:], magic)
		le.PutUint32(h[20:], 1)
		le.PutUint64(h[24:], uint64(start))
		le.PutUint64(h[32:], uint64(areaSize))
		le.PutUint64(h[40:], uint64(offset))
		le.PutUint64(h[48:], uint64(len(text)))
		le.PutUint32(h[56:], sum([]byte(text)))
		for j := range len(text) {
			at := offset + int64(j)
			if at >= areaSize {
				at = areaHeader + at - areaSize
			}
			head[start+at] = text[j]
		}
		le.PutUint32(h, sum(h[4:]))
	}
	le.PutUint32(s[16:], sum(s[20:]))
	return head
}

func group(seq int) string {
	return fmt.Sprintf(`vg { # a comment with a } in it
id = "g" seqno = %d extent_size = 8192 status = ["RESIZEABLE"]
description = "\"}\\"
physical_volumes { pv0 { id = "abcdef-ghij-klmn-opqr-stuv-wxyz-012345" pe_start = 2048 pe_count = 10 }
pv1 { id = "other" pe_start = 8192 pe_count = 2 } pv2 { id = "gone" flags = ["MISSING"] pe_start = 0 pe_count = 9 } }
logical_volumes {
two { id = "t" status = ["READ", "VISIBLE"]
segment1 { start_extent = 0 extent_count = 2 type = "striped" stripes = ["pv0", 0] }
segment2 { start_extent = 2 extent_count = 4 type = "striped" stripe_size = 128 stripes = ["pv1", 0, "pv0", 2] } }
inner { id = "i" status = [] segment1 { start_extent = 0 extent_count = 1 type = "striped" stripes = ["pv0", 9] } }
moved { id = "m" status = ["VISIBLE"] segment1 { start_extent = 0 extent_count = 1 type = "striped" stripes = ["pvmove0", 0] } }
gone { id = "n" status = ["VISIBLE"] segment1 { start_extent = 0 extent_count = 1 type = "striped" stripes = ["pv2", 0] } }
hole { id = "h" status = ["VISIBLE"] segment1 { start_extent = 1 extent_count = 1 type = "striped" stripes = ["pv0", 8] } }
} }
`, seq)
}

func TestTheNewestWholeCopyCounts(t *testing.T) {
	short := group(1)
	for name, c := range map[string]struct {
		head []byte
		seq  int64
	}{
		"one":                {label(64<<10, 512, group(3)), 3},
		"two":                {label(64<<10, 512, group(3), group(7)), 7},
		"older behind":       {label(64<<10, 512, group(7), group(3)), 7},
		"over the ring":      {label(8<<10, 8<<10-100, group(5)), 5},
		"up to the ring":     {label(8<<10, 8<<10-int64(len(short)), short), 1},
		"second is damaged":  {damage(label(64<<10, 512, group(3), group(7)), 4096+64<<10+600), 3},
		"first has no start": {damage(label(64<<10, 512, group(3), group(7)), 4096+8), 7},
	} {
		m, err := Read(disk{c.head}, size)
		if err != nil || m.Group == nil || m.Group.Seq != c.seq {
			t.Errorf("%s: Read = %+v, %v, want seq %d", name, m, err, c.seq)
			continue
		}
		if want := "abcdef-ghij-klmn-opqr-stuv-wxyz-012345"; m.UUID != want || !slices.ContainsFunc(m.Group.Members, func(p Physical) bool { return p.UUID == want }) {
			t.Errorf("%s: UUID %s of %v", name, m.UUID, m.Group.Members)
		}
		want := []Volume{
			{Name: "gone", UUID: "n", Size: 4 << 20, On: []string{"gone"}, Problem: "its physical volume gone was missing when the group was last changed"},
			{Name: "hole", UUID: "h", Size: 4 << 20, Problem: "its segments do not follow each other"},
			{Name: "moved", UUID: "m", Size: 4 << 20, Problem: "a volume on another volume"},
			{Name: "two", UUID: "t", Size: 24 << 20, Fixed: "it is striped", On: []string{m.UUID, "other"}, Segments: []Segment{
				{Size: 8 << 20, Stripes: []Stripe{{m.UUID, 1 << 20}}},
				{Size: 16 << 20, Chunk: 64 << 10, Stripes: []Stripe{{"other", 4 << 20}, {m.UUID, 9 << 20}}},
			}},
		}
		if diff := cmp.Diff(want, m.Group.Volumes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func damage(head []byte, at int) []byte {
	head[at] ^= 1
	return head
}

func TestAVolumeInNoGroupHasNone(t *testing.T) {
	for name, head := range map[string][]byte{"no area": label(0, 0), "an empty one": label(64<<10, 0, "")} {
		if m, err := Read(disk{head}, size); err != nil || m.Group != nil || m.UUID == "" {
			t.Errorf("%s: Read = %+v, %v", name, m, err)
		}
	}
}

// broken is the metadata with another text in one place.
func broken(old, now string) string { return strings.Replace(group(1), old, now, 1) }

func TestDamagedMetadataIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		head []byte
		size int64
	}{
		"nothing":         {nil, size},
		"too small":       {head(t), 1024},
		"label":           {damage(label(64<<10, 512, group(1)), sector+40), size},
		"header":          {damage(label(64<<10, 512, group(1)), 4096+50), size},
		"text":            {damage(label(64<<10, 512, group(1)), 4096+600), size},
		"area too large":  {label(64<<10, 512, group(1)), 32 << 10},
		"offset too far":  {label(8<<10, 512, group(1)), size},
		"no seqno":        {label(8<<10, 512, "vg { id = \"x\" }"), size},
		"two groups":      {label(8<<10, 512, "a { seqno = 1 extent_size = 1 } b { seqno = 1 extent_size = 1 }"), size},
		"no end":          {label(8<<10, 512, "vg { seqno = 1 extent_size = 1"), size},
		"text without":    {label(8<<10, 512, `vg { id = "x`), size},
		"huge volume":     {label(8<<10, 512, `vg { seqno = 1 extent_size = 4294967296 logical_volumes { a { status = ["VISIBLE"] s { extent_count = 4294967296 } } } }`), size},
		"too many":        {label(8<<10, 512, `vg { seqno = 1 extent_size = 1 logical_volumes { a { status = ["VISIBLE"] s { extent_count = 99999999999 } } } }`), size},
		"negative":        {label(8<<10, 512, `vg { seqno = -1 extent_size = 1 }`), size},
		"name of a path":  {label(8<<10, 512, `../sda { seqno = 1 extent_size = 1 }`), size},
		"name of a level": {label(8<<10, 512, `vg { seqno = 1 extent_size = 1 logical_volumes { .. { status = ["VISIBLE"] } } }`), size},
		"no layout":       {label(8<<10, 512, broken("pe_start = 2048", "")), size},
		"behind the end":  {label(8<<10, 512, broken(`"pv0", 2]`, `"pv0", 9]`)), size},
		"no whole stripe": {label(8<<10, 512, broken("extent_count = 4", "extent_count = 3")), size},
		"no stripe size":  {label(8<<10, 512, broken("stripe_size = 128", "")), size},
		"odd stripe size": {label(8<<10, 512, broken("stripe_size = 128", "stripe_size = 100")), size},
		"tiny stripes":    {label(8<<10, 512, broken("stripe_size = 128", "stripe_size = 4")), size},
		"empty segment":   {label(8<<10, 512, broken("extent_count = 2", "extent_count = 0")), size},
		"far member":      {label(8<<10, 512, broken("pe_start = 2048", "pe_start = 9007199254740992")), size},
		"huge member":     {label(8<<10, 512, strings.Replace(broken("extent_size = 8192", "extent_size = 4294967296"), "pe_count = 10", "pe_count = 4294967296", 1)), size},
		"extents of none": {label(8<<10, 512, broken("extent_size = 8192", "extent_size = 0")), size},
		"too deep":        {label(8<<10, 512, strings.Repeat("a {", 100)), size},
	} {
		if name == "offset too far" {
			binary.LittleEndian.PutUint64(c.head[4096+48:], 1<<40)
			binary.LittleEndian.PutUint32(c.head[4096:], sum(c.head[4100:4096+512]))
		}
		if m, err := Read(disk{c.head}, c.size); !errors.Is(err, ErrMetadata) || m.Group != nil {
			t.Errorf("%s: Read = %+v, %v, want ErrMetadata", name, m, err)
		}
	}
}

// failing is a disk that cannot be read behind its label.
type failing struct{ disk }

var errRead = errors.New("input/output error")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off >= 4096 {
		return 0, errRead
	}
	return f.disk.ReadAt(p, off)
}

func TestADiskThatCannotBeReadIsAnotherError(t *testing.T) {
	if _, err := Read(failing{disk{head(t)}}, size); !errors.Is(err, errRead) || errors.Is(err, ErrMetadata) {
		t.Errorf("Read: error %v", err)
	}
}

func TestALargeHostileTextEndsSoon(t *testing.T) {
	start := time.Now()
	for _, c := range [][2]string{{"", "a = 1 "}, {"", "a { b { } } "}, {"", `"`}, {"", "a = [1,"}, {"a = [", "1,"}, {"", "# "}, {"", `a = "\\`}, {"", "a {"}} {
		text := "vg { seqno = 1 extent_size = 1 " + c[0] + strings.Repeat(c[1], maxMetadata/len(c[1])) + " }"
		if _, err := parseGroup([]byte(text)); err == nil {
			t.Errorf("%q and many %q are metadata", c[0], c[1])
		}
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestSettingsAreFoundWhereTheyStand(t *testing.T) {
	text := "# filter = [ 1 ]\ndevices/scan = \"/dev\"\ndevices {\n\tfilter=[ \"a|x|\", # }\n \"r|\\\"|\" ]\n}\nglobal { umask = 077 }\ndevices { dir = \"/dev\" }\n"
	got, err := Settings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, s := range got {
		found = append(found, fmt.Sprintf("%s %q %s", s.Name, s.Values, text[s.Start:s.End]))
	}
	want := []string{
		"devices/scan [\"/dev\"] \"/dev\"",
		"devices/filter [\"a|x|\" \"r|\\\"|\"] [ \"a|x|\", # }\n \"r|\\\"|\" ]",
		"global/umask [\"077\"] 077",
		"devices/dir [\"/dev\"] \"/dev\"",
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	if _, err := Settings([]byte("devices {")); !errors.Is(err, ErrMetadata) {
		t.Errorf("a section without an end: %v", err)
	}
}
