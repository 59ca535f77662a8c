package guest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// server is a guest whose last partition, of 10 GiB, is in the group vg: a root of
// 6 GiB, swap space of 2 GiB behind it, and 2 GiB that are free but for a MiB.
func server() Topology {
	const extent = 4 * mib
	mount := func(name, kind string, size int64) Filesystem {
		return Filesystem{Device: name, Type: kind, UUID: "f", Size: size, Span: size}
	}
	return Topology{
		Disks: []Disk{{Name: "disk0", Size: 30 * gib, Table: "mbr", ID: "deadbe01", Partitions: []Partition{
			{Name: "disk0p1", Number: 1, UUID: "u", Start: mib, Size: 10*gib - mib, Type: "83"},
			{Name: "disk0p2", Number: 2, UUID: "u", Start: 10 * gib, Size: 10 * gib, Type: "8e"},
		}}},
		Filesystems: []Filesystem{{Device: "disk0p2", Type: LVMMember, Size: 10 * gib, Group: "g"}, mount("vg/root", "ext4", 6*gib), {Device: "vg/swap", Type: "swap", Size: 2 * gib}},
		Groups:      []Group{{Name: "vg", UUID: "g", Extent: extent, Members: []PhysicalVolume{{Device: "disk0p2", UUID: "p", Start: mib, Extents: 2559, Free: 511}}}},
		Volumes: []Volume{
			{Name: "vg/root", UUID: "r", Group: "g", Size: 6 * gib, On: []string{"disk0p2"}, Tail: &Tail{Device: "disk0p2", Extent: 1536}},
			{Name: "vg/swap", UUID: "s", Group: "g", Size: 2 * gib, On: []string{"disk0p2"}, Tail: &Tail{Device: "disk0p2", Extent: 2048, Room: 511}},
		},
	}
}

// with is the guest with another volume of 1 GiB behind the swap space.
func with(name, kind string) func(*Topology) {
	return func(t *Topology) {
		t.Volumes = append(t.Volumes, Volume{Name: name, UUID: "d", Group: "g", Size: gib, On: []string{"disk0p2"}, Tail: &Tail{Device: "disk0p2", Extent: 2304, Room: 255}})
		t.Filesystems = append(t.Filesystems, Filesystem{Device: name, Type: kind, UUID: "d", Size: gib, Span: gib})
	}
}

func TestAVolumeGrowsWithItsGroup(t *testing.T) {
	const gained = 2560 // extents of 10 GiB
	partition := []GrownPartition{{"disk0p2", 2, "u", 20 * gib, 30 * gib}}
	member := &GrownMember{"disk0p2", "p", "vg", "g", 2559, 2559 + gained, 4 * mib}
	grown := func(name, uuid string, size, extent int64, apart bool) Resize {
		id := "f"
		if uuid == "d" {
			id = "d"
		}
		return Resize{Partitions: partition, Member: member,
			Volume:     &GrownVolume{name, uuid, size, size + 10*gib, extent, apart},
			Filesystem: &GrownFilesystem{name, "ext4", id, size, size + 10*gib}}
	}
	alone := Resize{Partitions: partition, Member: member}
	checked := []Health{{Device: "vg/root", State: Clean}, {Device: "vg/data", State: Clean}}
	for _, test := range []struct {
		name   string
		change func(*Topology)
		asked  Enlarged
		want   Resize
		unused string
	}{
		{"the root, with swap space behind it", nil, Enlarged{Root: "vg/root"}, grown("vg/root", "r", 6*gib, 2559, true), ""},
		{"the root at the end", func(t *Topology) { *t.Volumes[0].Tail = Tail{"disk0p2", 2559, 0, false} }, Enlarged{Root: "vg/root"}, grown("vg/root", "r", 6*gib, 2559, false), ""},
		{"the root in front of a little that is free", func(t *Topology) { *t.Volumes[0].Tail = Tail{"disk0p2", 2048, 511, true} }, Enlarged{Root: "vg/root"}, grown("vg/root", "r", 6*gib, 2048, false), ""},
		{"the root in front of much that is free", func(t *Topology) {
			t.Groups[0].Members[0].Extents = 2559
			*t.Volumes[0].Tail = Tail{"disk0p2", 0, 2560, false}
		}, Enlarged{Root: "vg/root"}, grown("vg/root", "r", 6*gib, 0, false), ""},
		{"the root beside data", with("vg/data", "ext4"), Enlarged{Root: "vg/root"}, grown("vg/root", "r", 6*gib, 2559, true), ""},
		{"what is named", with("vg/data", "ext4"), Enlarged{Root: "vg/root", Volume: "data"}, grown("vg/data", "d", gib, 2304, false), ""},
		{"what is named with its group", with("vg/data", "ext4"), Enlarged{Root: "vg/root", Volume: "vg/data"}, grown("vg/data", "d", gib, 2304, false), ""},
		{"the only one, which is not the root", nil, Enlarged{Root: "disk1p1"}, grown("vg/root", "r", 6*gib, 2559, true), ""},

		{"what is not clear", with("vg/data", "ext4"), Enlarged{Root: "disk1p1"}, alone, "it is not clear which logical volume is to grow: it has vg/root, vg/data"},
		{"what is not there", nil, Enlarged{Root: "vg/root", Volume: "none"}, alone, "there is no none in the volume group vg, which has vg/root, vg/swap"},
		{"swap space", nil, Enlarged{Volume: "swap"}, alone, "vg/swap does not grow: vg/swap is swap space"},
		{"swap space alone", func(t *Topology) { t.Volumes = t.Volumes[1:] }, Enlarged{}, alone, "no logical volume grows: it has vg/swap"},
		{"no volume", func(t *Topology) { t.Volumes = nil }, Enlarged{}, alone, "no logical volume grows: it has none"},
		{"the root on another disk", func(t *Topology) { t.Volumes[0].On = []string{"disk1"} }, Enlarged{Root: "vg/root"}, alone, "no logical volume lies on disk0p2: it has vg/root"},
		{"a thin one", func(t *Topology) { t.Volumes[0].Problem = `a volume of type "thin"` }, Enlarged{Root: "vg/root"}, alone, `vg/root does not grow: a volume of type "thin"`},
		{"one with snapshots", func(t *Topology) { t.Volumes[0].Fixed = "it has snapshots" }, Enlarged{Root: "vg/root"}, alone, "vg/root does not grow: it has snapshots"},
		{"one that is to lie in one piece", func(t *Topology) { t.Volumes[0].Tail.Contiguous = true }, Enlarged{Root: "vg/root"}, alone, "vg/root does not grow: it is to lie in one piece, and others lie behind it"},
		{"one that is damaged", with("vg/bad", "ext4"), Enlarged{Volume: "bad"}, alone, "vg/bad does not grow: the file system on vg/bad was not checked"},
		{"what is encrypted", with("vg/data", "crypto_LUKS"), Enlarged{Volume: "data"}, alone, "vg/data does not grow: vg/data is encrypted"},
		{"what is of LVM's itself", with("vg/data", LVMMember), Enlarged{Volume: "data"}, alone, "vg/data does not grow: it is a physical volume itself"},
		{"what is not known", func(t *Topology) { t.Filesystems = t.Filesystems[:1] }, Enlarged{Volume: "root"}, alone, "vg/root does not grow: what is on it is not known"},
		{"what grows already", nil, Enlarged{Root: "vg/root", Growing: []string{"vg/root"}}, alone, "vg/root grows with another disk already"},
		{"more than ext can have", func(t *Topology) { t.Volumes[0].Size = 16 << 40 }, Enlarged{Root: "vg/root"}, alone, "vg/root does not grow: ext4 on vg/root is not grown beyond 16 TiB"},

		{"a group that is not whole", func(t *Topology) { t.Groups[0].Fixed = "its physical volume x is on none of the disks" }, Enlarged{Root: "vg/root"},
			Resize{Partitions: partition}, "disk0p2 is a physical volume of vg, which does not grow: its physical volume x is on none of the disks"},
		{"a physical volume with metadata at its end", func(t *Topology) { t.Groups[0].Members[0].Fixed = "it keeps a copy of LVM's metadata at its end" }, Enlarged{Root: "vg/root"},
			Resize{Partitions: partition}, "does not grow: it keeps a copy"},
		{"too little for an extent", func(t *Topology) { t.Groups[0].Extent = 16 * gib; t.Groups[0].Members[0].Extents = 1 }, Enlarged{Root: "vg/root"},
			Resize{Partitions: partition}, "too little for an extent"},
	} {
		top := server()
		if test.change != nil {
			test.change(&top)
		}
		test.asked.From, test.asked.Checked = 20*gib, checked
		got := top.PlanResize("disk0", test.asked)
		if !strings.Contains(got.Unused, test.unused) || (got.Unused == "") != (test.unused == "") || (got.Try == "") != (test.unused == "") {
			t.Errorf("%s: unused: %q (%q), want %q", test.name, got.Unused, got.Try, test.unused)
		}
		test.want.Disk, test.want.ID, test.want.From, test.want.To = "disk0", "deadbe01", 20*gib, 30*gib
		got.Unused, got.Try = "", ""
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		last, ok := top.Last("disk0", test.asked)
		if got.Filesystem != nil && (!ok || last.Device != got.Filesystem.Device) {
			t.Errorf("%s: %+v is to be checked", test.name, last)
		}
	}
}

func TestWhatIsLeftOfAGroupIsToldWithItsCommand(t *testing.T) {
	top := server()
	with("vg/data", "ext4")(&top)
	got := top.PlanResize("disk0", Enlarged{From: 20 * gib, Root: "disk1"})
	if want := "name one with the size, as in --grow 0=SIZE:VOLUME, or in the guest: lvextend --resizefs --extents +2560 /dev/vg/VOLUME"; got.Try != want {
		t.Errorf("try %q, want %q", got.Try, want)
	}
	for i := range 20 {
		with(fmt.Sprintf("vg/data%d", i), "ext4")(&top)
	}
	if got := top.PlanResize("disk0", Enlarged{From: 20 * gib}); !strings.HasSuffix(got.Unused, "vg/data7, 12 more") {
		t.Errorf("of many volumes it says %q", got.Unused)
	}
}
