package direct

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

func needVolumes(t *testing.T) {
	t.Helper()
	guesttest.Need(t, slices.Concat(guesttest.Programs, guesttest.VolumePrograms)...)
}

func TestLogicalVolumesAreSeenWhereverTheyLie(t *testing.T) {
	needVolumes(t)
	disks := guesttest.Volumes(t)
	g := openDisks(t, disks...)
	got := g.Topology()
	for i := range got.Volumes {
		got.Volumes[i].UUID, got.Volumes[i].Group, got.Volumes[i].Segments = "", "", nil
	}
	want := []guest.Volume{
		{Name: "half/kept", Size: 8 << 20, On: []string{"disk2p1"}, Tail: &guest.Tail{Device: "disk2p1", Extent: 2}},
		{Name: "half/lost", Size: 40 << 20, On: []string{"disk2p1"}, Problem: "a part of it is on the physical volume UUID, which is on none of the disks"},
		{Name: "twin/one", Size: 8 << 20, On: []string{"disk2p3"}, Problem: "2 volume groups are named twin"},
		{Name: "twin/one", Size: 8 << 20, On: []string{"disk2p4"}, Problem: "2 volume groups are named twin"},
		{Name: "web-vg/both", Size: 16 << 20, On: []string{"disk0p1", "disk1"}, Fixed: "it is striped"},
		{Name: "web-vg/grown", Size: 16 << 20, On: []string{"disk1", "disk0p1"}, Tail: &guest.Tail{Device: "disk0p1", Extent: 20, Room: 9}},
		{Name: "web-vg/root", Size: 64 << 20, On: []string{"disk0p1"}, Tail: &guest.Tail{Device: "disk0p1", Extent: 16}},
		{Name: "web-vg/swap-1", Size: 16 << 20, On: []string{"disk1"}, Tail: &guest.Tail{Device: "disk1", Extent: 4}},
	}
	uuid := regexp.MustCompile(`\w{6}(-\w{4}){5}-\w{6}`)
	got.Volumes[1].Problem = uuid.ReplaceAllString(got.Volumes[1].Problem, "UUID")
	less := func(a, b guest.Volume) int { return strings.Compare(a.Name+a.On[0], b.Name+b.On[0]) } // UUIDs of groups are random
	slices.SortFunc(got.Volumes, less)
	if diff := cmp.Diff(want, got.Volumes); diff != "" {
		t.Error("Volumes (-want +got):\n", diff)
	}
	groups(t, got.Groups, uuid)
	got.Filesystems = slices.DeleteFunc(got.Filesystems, func(f guest.Filesystem) bool { return f.Type == guest.LVMMember })
	if diff := cmp.Diff(guesttest.OnVolumes, got.Filesystems); diff != "" {
		t.Error("Filesystems (-want +got):\n", diff)
	}
	for _, device := range []string{"half/lost", "twin/one", "web-vg/none", "web-vg/../sda"} {
		if err := g.Mount(device, "/"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Mount(%s): error %v, want ErrNotExist", device, err)
		}
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

// groups holds those of guesttest.Volumes to what LVM was told.
func groups(t *testing.T, got []guest.Group, uuid *regexp.Regexp) {
	t.Helper()
	slices.SortFunc(got, func(a, b guest.Group) int {
		return strings.Compare(a.Name+a.Members[0].Device, b.Name+b.Members[0].Device)
	})
	for i := range got {
		g := &got[i]
		g.UUID, g.Fixed = "", uuid.ReplaceAllString(g.Fixed, "UUID")
		slices.SortFunc(g.Members, func(a, b guest.PhysicalVolume) int { return strings.Compare(a.Device, b.Device) })
		for j := range g.Members {
			g.Members[j].UUID = ""
		}
	}
	pv := func(device string, extents, free int64) guest.PhysicalVolume {
		return guest.PhysicalVolume{Device: device, Start: 1 << 20, Extents: extents, Free: free}
	}
	want := []guest.Group{
		{Name: "half", Extent: 4 << 20, Members: []guest.PhysicalVolume{pv("disk2p1", 7, 2)}, Fixed: "its physical volume UUID is on none of the disks"},
		{Name: "twin", Extent: 4 << 20, Members: []guest.PhysicalVolume{pv("disk2p3", 7, 5)}, Fixed: "2 volume groups have its name"},
		{Name: "twin", Extent: 4 << 20, Members: []guest.PhysicalVolume{pv("disk2p4", 7, 5)}, Fixed: "2 volume groups have its name"},
		{Name: "web-vg", Extent: 4 << 20, Members: []guest.PhysicalVolume{pv("disk0p1", 29, 9), pv("disk1", 15, 7)}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("Groups (-want +got):\n", diff)
	}
}

func TestAVolumeInOnePieceIsAnEngine(t *testing.T) {
	needVolumes(t)
	disks := guesttest.Volumes(t)
	before := outside(t, disks[0], part{2 << 20, 64 << 20})
	g := openDisks(t, disks...)
	must(t, g.Mount("web-vg/root", "/"))
	if data, err := g.ReadFile("/absolute", 1000); err != nil || string(data) != "/dev/sda1 / ext4\n" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	guesttest.Run(t, func(t *testing.T) guesttest.Disk {
		must(t, guesttest.Clear(g))
		return suite{g}
	})
	must(t, g.Close())
	requireNothingLeft(t, disks)
	if !bytes.Equal(before, outside(t, disks[0], part{2 << 20, 64 << 20})) {
		t.Error("bytes outside of the volume were written")
	}
}

// part is a part of a disk, in bytes.
type part struct{ start, size int64 }

// outside is what a disk has outside of its parts.
func outside(t *testing.T, disk string, parts ...part) []byte {
	t.Helper()
	data, err := os.ReadFile(disk)
	must(t, err)
	for _, p := range parts {
		clear(data[p.start : p.start+p.size])
	}
	return data
}

func TestAServersVolumesAreMountedInsideEachOther(t *testing.T) {
	guesttest.Need(t, slices.Concat(guesttest.Programs, guesttest.VolumePrograms, []string{"mkfs.vfat"})...)
	disks := []string{guesttest.Server(t)}
	began := time.Now()
	g := openDisks(t, disks...)
	opened := time.Since(began)
	got := g.Topology().Filesystems
	for i := range got {
		got[i].UUID, got[i].Group = "", ""
	}
	want := []guest.Filesystem{
		{Device: "disk0p1", Type: "vfat", Label: "EFI", Size: 64 << 20},
		{Device: "disk0p2", Type: "ext4", Label: "boot", Size: 32 << 20, Span: 32 << 20},
		{Device: "disk0p3", Type: guest.LVMMember, Size: 480 << 20},
		{Device: "db-vg/root", Type: "ext4", Label: "root", Size: 64 << 20, Span: 64 << 20},
		{Device: "db-vg/srv", Type: "xfs", Label: "srv", Size: 320 << 20, Span: 320 << 20},
		{Device: "db-vg/swap_1", Type: "swap", Size: 16 << 20},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("Filesystems (-want +got):\n", diff)
	}
	mounts := [][2]string{{"db-vg/root", "/"}, {"disk0p2", "/boot"}, {"db-vg/srv", "/srv"}}
	if known("vfat") == nil {
		mounts = append(mounts, [2]string{"disk0p1", "/boot/efi"})
	}
	for _, m := range mounts {
		if m[1] != "/" {
			must(t, g.Mkdir(m[1], 0o755))
		}
		must(t, g.Mount(m[0], m[1]))
		must(t, g.WriteFile(m[1]+"/file", 0, []byte(m[0])))
	}
	t.Logf("opened in %v, mounted and written in %v", opened, time.Since(began)-opened)
	must(t, g.Close())

	again := openDisks(t, disks...)
	for _, m := range mounts {
		must(t, again.Mount(m[0], "/"))
		if data, err := again.ReadFile("/file", 100); err != nil || string(data) != m[0] {
			t.Errorf("%s after Close: %q, %v", m[0], data, err)
		}
		must(t, again.UnmountAll())
	}
	must(t, again.Close())
	requireNothingLeft(t, disks)
}
