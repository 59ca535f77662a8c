package direct

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/md"
	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/proc"
)

func TestArraysAreSeenWhereverTheyLie(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := guesttest.Arrays(t)
	g := openDisks(t, disks...)
	type seen struct{ kind, on, stale, why string }
	got := map[string]seen{}
	for _, v := range g.Topology().Volumes {
		if v.Array != nil {
			got[v.Name] = seen{v.Array.Kind + " " + v.Array.Version, strings.Join(v.On, " "), strings.Join(v.Array.Stale, " "), v.Problem + v.Unsupported}
		}
	}
	want := map[string]seen{
		"md/root":    {kind: "raid1 1.2", on: "disk0p1 disk1p1"},
		"md/stripes": {kind: "raid0 1.2", on: "disk0p2 disk1p2"},
		"md/3":       {kind: "raid1 0.90", on: "disk0p3 disk1p3"},
		"md/five":    {"raid5 1.1", "disk0p4 disk1p4 disk2p1", "", "it is a raid5, which is left to md"},
		"md/joined":  {kind: "linear 1.0", on: "disk0p5 disk1p5"},
		"md/ten":     {"raid10 1.2", "disk0p6 disk1p6 disk2p2 disk3p1", "", "it is a raid10, which is left to md"},
		"md/pv":      {kind: "raid1 1.2", on: "disk0p7 disk1p7"},
		"md/worn":    {"raid1 1.2", "disk0p8", "disk1p8", ""},
		"md/six":     {"raid6 1.2", "disk0p9 disk1p9 disk2p3 disk3p2", "", "it is a raid6, which is left to md"},
		"md/zones":   {kind: "raid0 1.2", on: "disk0p10 disk1p10"},
		"md/lost":    {"raid0 1.2", "disk2p4", "", "it lacks 1 of its 2 members"},
		"md/whole":   {"raid1 1.0", "disk4 disk5", "", "it is partitioned"},
		"md/left":    {kind: "raid1 1.2", on: "disk2p5 disk3p4"},
		"md/right":   {kind: "raid1 1.2", on: "disk2p6 disk3p5"},
		"md/outer":   {kind: "raid0 1.2", on: "md/left md/right"},
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is %+v, want %+v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d arrays, want %d", len(got), len(want))
	}
	for device := range guesttest.OnArrays {
		if _, found := holds(g, device); found == slices.Contains(guesttest.LeftToMd, device) {
			t.Errorf("a file system on %s is found: %v", device, found)
		}
	}
	for _, d := range g.Topology().Disks[4:] {
		if d.Table != "" || len(d.Partitions) > 0 {
			t.Errorf("the array's partition table is taken for that of %+v", d)
		}
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

func TestWithoutDeviceMapperAnArrayIsUnsupported(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	if control, err := openMapper(); err == nil {
		must(t, control.Close())
		t.Skip("this kernel has device-mapper")
	}
	disks := guesttest.Arrays(t)
	g := openDisks(t, disks...)
	for _, device := range []string{"md/root", "md-vg/data"} {
		if err := g.Mount(device, "/"); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "device-mapper does not work here") {
			t.Errorf("Mount(%s) = %v, want ErrUnsupported with the reason", device, err)
		}
	}
	must(t, g.Mount("md/worn", "/")) // one member of it is left
	if data, err := g.ReadFile("/name", 100); err != nil || string(data) != "worn since\n" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

// TestMdFindsItsArraysAsItLeftThem writes to all arrays that are mapped, and then
// has the kernel's own md assemble them.
func TestMdFindsItsArraysAsItLeftThem(t *testing.T) {
	needMapper(t)
	guesttest.Need(t, "mdadm")
	disks := guesttest.Arrays(t)
	g := openDisks(t, disks...)
	heads := superblocks(t, disks)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // over many stripes
	var written []string
	for device := range guesttest.OnArrays {
		if slices.Contains(guesttest.LeftToMd, device) {
			continue
		}
		must(t, g.Mount(device, "/"))
		if data, err := g.ReadFile("/name", 100); err != nil || string(data) != guesttest.OnArrays[device]+"\n" {
			t.Errorf("%s: ReadFile = %q, %v", device, data, err)
		}
		must(t, g.WriteFile("/large", 0, large))
		must(t, g.UnmountAll())
		written = append(written, device)
	}
	after := superblocks(t, disks)
	for name, before := range heads {
		if !bytes.Equal(before, after[name]) {
			t.Errorf("the superblock on %s was written to", name)
		}
	}
	top := g.Topology()
	must(t, g.Close())
	requireNothingLeft(t, disks)
	nodes := assemble(t, disks, top.Volumes)
	for _, device := range written {
		if node, ok := nodes[device]; ok {
			f, _ := holds(g, device)
			readMounted(t, node, f.Type, large)
		}
	}
}

// holds is what a device holds.
func holds(g guest.Guest, device string) (guest.Filesystem, bool) {
	for _, f := range g.Topology().Filesystems {
		if f.Device == device {
			return f, true
		}
	}
	return guest.Filesystem{}, false
}

// superblocks are the bytes of all members where their data are not.
func superblocks(t *testing.T, disks []string) map[string][]byte {
	t.Helper()
	g, err := readDisks(t.Context(), opened(t, disks), nil, slog.New(slog.DiscardHandler))
	must(t, err)
	defer g.closeDisks()
	found := map[string][]byte{}
	for _, f := range g.topology.Filesystems {
		if f.Type != guest.ArrayMember {
			continue
		}
		m, err := md.Read(g.reader(f.Device), f.Size)
		must(t, err)
		rest := make([]byte, m.Start+f.Size-m.Start-m.Length)
		_, err = g.reader(f.Device).ReadAt(rest[:m.Start], 0)
		must(t, err)
		_, err = g.reader(f.Device).ReadAt(rest[m.Start:], m.Start+m.Length)
		must(t, err)
		found[f.Device] = rest
	}
	return found
}

// assemble has mdadm assemble arrays, and md compare the copies of mirrors. It
// returns the arrays' devices by the topology's names.
func assemble(t *testing.T, disks []string, volumes []guest.Volume) map[string]string {
	t.Helper()
	nodes := map[string]string{}
	for i, disk := range disks {
		out, err := proc.Run(t.Context(), "losetup", "--find", "--show", "--partscan", disk)
		must(t, err)
		nodes[fmt.Sprintf("disk%d", i)] = strings.TrimSpace(string(out))
	}
	for i, disk := range disks {
		name := fmt.Sprintf("disk%d", i)
		parts, err := filepath.Glob(nodes[name] + "p*")
		must(t, err)
		for _, p := range parts {
			nodes[name+strings.TrimPrefix(p, nodes[name])] = p
		}
		if strings.Contains(disk, "array") && len(parts) == 0 {
			t.Errorf("the kernel has no partitions of %s", disk)
		}
	}
	slices.SortFunc(volumes, func(a, b guest.Volume) int { return strings.Compare(a.On[0], b.On[0]) }) // disks before arrays
	for i, v := range volumes {
		if v.Array == nil || v.Problem != "" || v.Unsupported != "" {
			continue
		}
		device := fmt.Sprintf("/dev/md%d", 100+i)
		args := []string{"--assemble", "--run", device}
		for _, on := range v.On {
			args = append(args, nodes[on])
		}
		_, err := proc.Run(t.Context(), "mdadm", args...)
		must(t, err)
		nodes[v.Name] = device
		requireEqual(t, v, filepath.Join("/sys/block", filepath.Base(device), "md"))
	}
	return nodes
}

// requireEqual has md read all of an array's copies, and find nothing to mend. Of
// one member there is nothing to compare.
func requireEqual(t *testing.T, v guest.Volume, dir string) {
	t.Helper()
	says := func(file string) string {
		data, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		return strings.TrimSpace(string(data))
	}
	if state := says("array_state"); state != "clean" {
		t.Errorf("%s is %s", v.Name, state)
	}
	if v.Array.Kind != "raid1" || len(v.On) < 2 {
		return
	}
	if doing := says("sync_action"); doing != "idle" {
		t.Errorf("md has to %s %s", doing, v.Name)
	}
	must(t, os.WriteFile(filepath.Join(dir, "sync_action"), []byte("check"), 0))
	for deadline := time.Now().Add(time.Minute); says("sync_action") != "idle" && time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
	}
	if n := says("mismatch_cnt"); n != "0" || says("last_sync_action") != "check" {
		t.Errorf("%s: %s sectors are not equal", v.Name, n)
	}
}

// readMounted reads what was written to an array, now that md shows it.
func readMounted(t *testing.T, node, fstype string, want []byte) {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount(node, dir, fstype, unix.MS_RDONLY, ""))
	if data, err := os.ReadFile(filepath.Join(dir, "large")); err != nil || !bytes.Equal(data, want) {
		t.Errorf("%s: %d bytes, %v", node, len(data), err)
	}
	must(t, unix.Unmount(dir, 0))
}

func TestAMirrorThatCouldNotBeWrittenIsTold(t *testing.T) {
	needMapper(t)
	mapper := func() *mapped {
		control, err := openMapper()
		must(t, err)
		return &mapped{control: control}
	}
	const size = 8192 // sectors
	bad := mapper()
	must(t, bad.make([]target{{size: size, kind: "error"}}))
	good, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	must(t, errors.Join(err, good.Truncate(size*sector)))
	t.Cleanup(func() { good.Close() })
	for name, want := range map[string]bool{"all": false, "one": true} {
		first, err := loop.Attach(good, 0, size*sector/2)
		must(t, err)
		second, err := loop.Attach(good, size*sector/2, size*sector/2)
		must(t, err)
		m := mapper()
		m.under = []device{first, second}
		other := second.Number()
		if want {
			other = bad.Number()
		}
		must(t, m.make([]target{{size: size / 2, kind: mirror, params: fmt.Sprintf("core 2 1024 nosync 2 %s 0 %s 0", first.Number(), other)}}))
		_, err = m.file.WriteAt(bytes.Repeat([]byte("x"), 1<<20), 0)
		must(t, err)
		if err := m.Detach(); (err != nil) != want || want && !strings.Contains(err.Error(), "not all of its members") {
			t.Errorf("%s: detach = %v", name, err)
		}
	}
	must(t, bad.Detach())
}

func TestTheStateOfAMirrorIsRead(t *testing.T) {
	for status, want := range map[string]bool{
		"2 7:3 7:4 8/8 1 AA 1 core": false, "2 7:3 7:4 8/8 1 AD 1 core": true, "3 7:3 7:4 7:5 8/8 1 AAA 1 core": false,
		"2 7:3 7:4 8/8 1": true, "": true,
	} {
		if got := failedMirror(status); got != want {
			t.Errorf("failedMirror(%q) = %v", status, got)
		}
	}
}

func TestAPartitionsOldSuperblockIsNotTheDisks(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	name := filepath.Join(t.TempDir(), "disk.raw")
	member := outside(t, guesttest.Arrays(t)[0])[25<<20 : 37<<20] // of md/3
	must(t, os.WriteFile(name, append(make([]byte, 1<<20), member...), 0o600))
	_, err := proc.Command{Name: "sfdisk", Args: []string{"--quiet", name}, Stdin: strings.NewReader("label: dos\nstart=2048, type=fd\n")}.Run(t.Context())
	must(t, err)
	g := openDisks(t, name)
	top := g.Topology()
	if len(top.Disks[0].Partitions) != 1 || len(top.Volumes) != 1 || !slices.Equal(top.Volumes[0].On, []string{"disk0p1"}) || top.Volumes[0].Array.Lacks != 1 {
		t.Errorf("%+v", top)
	}
	must(t, g.Close())
}

func TestAnArrayOfClonesIsNotOpened(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := guesttest.Arrays(t)
	g := openDisks(t, disks[0], disks[1], clone(t, disks[1]))
	for _, v := range g.Topology().Volumes {
		twice := "its member 1 is there twice: on disk1p1 and on disk2p1"
		if v.Name == "md/root" && (v.Problem != twice || v.Segments != nil) {
			t.Errorf("%+v", v)
		}
	}
	must(t, g.Close())
}
