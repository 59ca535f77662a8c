package lvm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/proc"
)

const (
	memory = 100 << 20 // of each physical volume that tools make
	larger = 200 << 20
	mib    = 1 << 20
)

// tools runs LVM's own program on files, through loop devices and without
// device-mapper.
type tools struct {
	t       *testing.T
	devices []string
}

func attach(t *testing.T, files ...string) tools {
	t.Helper()
	l := tools{t: t}
	for _, f := range files {
		out, err := proc.Run(t.Context(), "losetup", "--find", "--show", f)
		if err != nil {
			t.Fatal(err)
		}
		l.devices = append(l.devices, strings.TrimSpace(string(out)))
	}
	return l
}

func (l tools) detach() {
	for _, d := range l.devices {
		if _, err := proc.Run(l.t.Context(), "losetup", "--detach", d); err != nil {
			l.t.Error(err)
		}
	}
}

func (l tools) run(args ...string) []byte {
	l.t.Helper()
	const config = "devices { use_devicesfile=0 } backup { backup=0 archive=0 } activation { udev_sync=0 udev_rules=0 }"
	out, err := proc.Run(l.t.Context(), "lvm", append(args, "--config", config, "--driverloaded", "n", "--devices", strings.Join(l.devices, ","))...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// report is what LVM tells of its extents: of each segment, and of each physical volume.
func (l tools) report() (rows []string) {
	l.t.Helper()
	var told struct {
		Report []map[string][]map[string]string
	}
	out := append([]byte{}, l.run("pvs", "--reportformat", "json", "-o", "pv_uuid,pv_pe_count,pv_pe_alloc_count")...)
	segments := l.run("lvs", "-a", "--segments", "--reportformat", "json", "-o", "lv_name,seg_start_pe,seg_size_pe,devices,segtype")
	for _, text := range [][]byte{out, segments} {
		if err := json.Unmarshal(text, &told); err != nil {
			l.t.Fatal(err)
		}
		for _, list := range told.Report[0] {
			for _, row := range list {
				text := fmt.Sprint(row) // sorted by key
				for i, d := range l.devices {
					text = strings.ReplaceAll(text, d, fmt.Sprintf("pv%d", i))
				}
				rows = append(rows, text)
			}
		}
	}
	slices.Sort(rows)
	return slices.Compact(rows) // it tells of some twice
}

// file is a Device of a file's.
type file struct{ *os.File }

func (f file) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func openFile(t *testing.T, name string) file {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return file{f}
}

func needTools(t *testing.T) {
	t.Helper()
	_, lvm := proc.Look("lvm")
	_, losetup := proc.Look("losetup")
	missing := errors.Join(lvm, losetup)
	if os.Getuid() != 0 {
		missing = errors.Join(missing, errors.New("needs root"))
	}
	if missing != nil && os.Getenv("NEED_TOOLS") == "1" {
		t.Fatal(missing)
	}
	if missing != nil {
		t.Skip(missing)
	}
}

// made makes a group on two physical volumes, the first of which becomes larger.
func made(t *testing.T, do func(tools)) []string {
	t.Helper()
	names := []string{filepath.Join(t.TempDir(), "first.raw"), filepath.Join(t.TempDir(), "second.raw")}
	for _, name := range names {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, memory); err != nil {
			t.Fatal(err)
		}
	}
	l := attach(t, names...)
	l.run("pvcreate", "--yes", l.devices[0], l.devices[1])
	l.run("vgcreate", "vg", l.devices[0], l.devices[1])
	do(l)
	l.detach()
	if err := os.Truncate(names[0], larger); err != nil {
		t.Fatal(err)
	}
	return names
}

func (l tools) volume(name string, extents int, device int) {
	l.t.Helper()
	l.run("lvcreate", "-an", "-Zn", "-Wn", "--yes", "--name", name, "-l", fmt.Sprint(extents), "vg", l.devices[device])
}

// cloned copies a group's files, sparse.
func cloned(t *testing.T, names []string) (clones []string) {
	t.Helper()
	for _, name := range names {
		clone := filepath.Join(t.TempDir(), filepath.Base(name))
		if _, err := proc.Run(t.Context(), "cp", "--sparse=always", name, clone); err != nil {
			t.Fatal(err)
		}
		clones = append(clones, clone)
	}
	return clones
}

// planned is a Growth of the first physical volume, to its size, and of a volume by so
// many extents, from one on.
func planned(t *testing.T, names []string, volume string, at, count int64) Growth {
	t.Helper()
	f := openFile(t, names[0])
	m, err := Read(f, f.Size())
	if err != nil {
		t.Fatal(err)
	}
	g := Growth{Group: m.Group.UUID, Member: m.UUID, Size: larger, From: 24, Extents: 49, At: at, Count: count}
	for _, v := range m.Group.Volumes {
		if v.Name == volume {
			g.Volume = v.UUID
		}
	}
	return g
}

func TestAGroupGrowsAsLVMItselfGrowsIt(t *testing.T) {
	needTools(t)
	for _, test := range []struct {
		name      string
		make      func(tools)
		volume    string
		at, count int64
	}{
		{"the physical volume alone", func(l tools) { l.volume("root", 24, 0) }, "", 0, 0},
		{"a volume in front of new room", func(l tools) { l.volume("swap", 4, 0); l.volume("root", 20, 0) }, "root", 24, 25},
		{"a volume with others behind it", func(l tools) { l.volume("root", 20, 0); l.volume("swap", 4, 0) }, "root", 24, 25},
		{"a volume with free room behind it", func(l tools) { l.volume("root", 10, 0) }, "root", 10, 25},
		{"a volume that begins on the other device", func(l tools) { l.volume("data", 10, 1); l.volume("root", 20, 0) }, "data", 24, 25},
		{"one of two pieces", func(l tools) {
			l.volume("data", 10, 1)
			l.run("lvextend", "-l+24", "vg/data", l.devices[0])
		}, "data", 24, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			ours := made(t, test.make)
			theirs := cloned(t, ours)
			g := planned(t, ours, test.volume, test.at, test.count)
			if err := Grow([]Device{openFile(t, ours[0]), openFile(t, ours[1])}, g); err != nil {
				t.Fatal(err)
			}
			l := attach(t, theirs...)
			l.run("pvresize", l.devices[0])
			if test.volume != "" {
				l.run("lvextend", fmt.Sprintf("-l+%d", test.count), "vg/"+test.volume, fmt.Sprintf("%s:%d-%d", l.devices[0], test.at, test.at+test.count-1))
			}
			want := l.report()
			l.detach()

			l = attach(t, ours...)
			defer l.detach()
			if diff := cmp.Diff(want, l.report()); diff != "" {
				t.Errorf("LVM's way -, ours +:\n%s", diff)
			}
			if out := string(l.run("vgck", "vg")); strings.Contains(out, "rror") {
				t.Errorf("vgck says %s", out)
			}
			l.volume("more", 5, 1) // LVM goes on from there
			if err := Grow([]Device{openFile(t, ours[0]), openFile(t, ours[1])}, g); !errors.Is(err, ErrChanged) {
				t.Errorf("grown twice: %v", err)
			}
		})
	}
}

// Both ends of the ring are met as LVM itself meets them.
func TestLVMReadsATextThatGoesRound(t *testing.T) {
	needTools(t)
	names := made(t, func(l tools) { l.volume("root", 20, 0) })
	g := planned(t, names, "", 0, 0)
	g.Extents = g.From
	devices := []Device{openFile(t, names[0]), openFile(t, names[1])}
	round := false
	for last := int64(0); !round; {
		if err := Grow(devices, g); err != nil {
			t.Fatal(err)
		}
		_, areas, err := readLabel(devices[0], larger)
		if err != nil {
			t.Fatal(err)
		}
		c, err := readCopy(devices[0], larger, areas[0])
		if err != nil {
			t.Fatal(err)
		}
		round, last = c.offset < last || c.offset+int64(len(c.text)) > c.area.size, c.offset
	}
	l := attach(t, names...)
	defer l.detach()
	l.run("vgck", "vg")
	l.volume("more", 2, 1)
	if got := l.report(); len(got) != 4 {
		t.Errorf("LVM sees %q", got)
	}
}

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
