package lvm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/disk/loop/looptest"
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
	loops   []*loop.Device
	devices []string
}

func attach(t *testing.T, files ...string) tools {
	t.Helper()
	l := tools{t: t}
	for _, f := range files {
		d := looptest.Attach(t, f, 0, 0)
		l.loops, l.devices = append(l.loops, d), append(l.devices, d.Node())
	}
	return l
}

func (l tools) detach() {
	for _, d := range l.loops {
		looptest.Detach(l.t, d)
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
	_, missing := proc.Look("lvm")
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
