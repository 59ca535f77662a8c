package guesttest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// GrowPrograms are those that Larger and Grow run beyond Programs and CheckPrograms.
var GrowPrograms = []string{"resize2fs", "mkfs.btrfs", "btrfs"}

// largerDisk is a disk that was made larger after its file system was made.
type largerDisk struct {
	name, table, fstype string
	start, size         int64  // of the file system, MiB
	partition           string // that it is on
	grows, damaged      bool
}

var larger = []largerDisk{
	{"ext4 on a GPT", "label: gpt\n,8M\n,64M\n", "ext4", 9, 64, "p2", true, false},
	{"ext3 in an extended partition", "label: dos\nlabel-id: 0xdeadbe02\n,8M\n,,5\n,8M\n,\n", "ext3", 19, 61, "p6", true, false},
	{"XFS on an MBR", "label: dos\n,8M,82\n,310M,83,*\n", "xfs", 9, 310, "p2", true, false},
	{"ext2 on a whole disk", "", "ext2", 0, 80, "", true, false},
	{"btrfs on a GPT", "label: gpt\n,8M\n,128M\n", "btrfs", 9, 128, "p2", true, false},
	{"an unknown last partition", "label: gpt\n,64M\n,8M\n", "ext4", 1, 64, "p1", false, false},
	{"ext4 that is damaged", "label: gpt\n,64M\n", "ext4", 1, 64, "p1", true, true},
}

// largerBy is what each of the disks was made larger by: more than one group of
// an ext needs, and an allocation group of XFS.
const largerBy = 400 << 20

// Larger makes disks that Grow lets an engine grow, in a folder of the test.
func Larger(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	var disks []string
	for i, l := range larger {
		disk, file := filepath.Join(dir, fmt.Sprintf("%d.raw", i)), filepath.Join(dir, "fs")
		sparse(t, disk, l.was())
		if l.table != "" {
			run(t, l.table, "sfdisk", "--quiet", disk)
		}
		Make(t, file, l.fstype, l.size<<20)
		if l.damaged {
			clearInode(t, file, nil)
		}
		splice(t, file, disk, l.start<<20)
		if err := os.Truncate(disk, l.was()+largerBy); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, disk)
	}
	return disks
}

// was is how large a disk was: the last file system ends a MiB before its end,
// where a partition table may have its second copy.
func (l largerDisk) was() int64 {
	if l.table == "" {
		return l.size << 20
	}
	return max(80, l.start+l.size+1) << 20
}

// Grow holds an engine to its word about the disks of Larger, the first of which
// is the guest's disk number first: files stay, and planning again gives nothing.
func Grow(t *testing.T, g guest.Guest, first int) {
	for i, l := range larger {
		disk := fmt.Sprintf("disk%d", first+i)
		t.Run(strings.ReplaceAll(l.name, " ", "-"), func(t *testing.T) { grow(t, g, l, disk) })
	}
	if err := g.Grow(t.Context(), guest.Resize{Disk: "disk99"}); err == nil {
		t.Error("a disk that is not there has grown")
	}
}

func grow(t *testing.T, g guest.Guest, l largerDisk, disk string) {
	device := disk + l.partition
	if l.damaged {
		doesNotGrow(t, g, l, disk)
		return
	}
	must(t, g.Mount(device, "/"))
	write(t, g, "/kept", strings.Repeat("kept\n", 10_000))
	r, before := plan(t, g, disk, l.was()), partitions(g, disk)
	if err := g.Grow(t.Context(), r); err == nil {
		t.Error("grown while something is mounted")
	}
	must(t, g.UnmountAll())
	if l.grows != (r.Filesystem != nil) || l.grows == (r.Unused != "") {
		t.Fatalf("planned: %+v", r)
	}
	must(t, g.Grow(t.Context(), r))

	f := filesystem(t, g, device)
	if grown := f.Span > l.size<<20+largerBy/2; grown != l.grows {
		t.Errorf("it spans %d bytes of %d, and spanned %d", f.Span, f.Size, l.size<<20)
	}
	for i, p := range partitions(g, disk) {
		if was := before[i]; p.UUID != was.UUID || p.Start != was.Start || p.Type != was.Type || p.Size < was.Size {
			t.Errorf("the partition %+v was %+v", p, was)
		}
	}
	if again := plan(t, g, disk, r.To); !again.Empty() {
		t.Errorf("planning again gives %+v", again)
	}
	if err := g.Grow(t.Context(), r); l.grows && l.table != "" && err == nil {
		t.Error("what was planned before was done twice")
	}
	must(t, g.Mount(device, "/"))
	wantData(t, g, "/kept", strings.Repeat("kept\n", 10_000))
	space, err := g.Space("/")
	must(t, err)
	if roomy := space.Free > largerBy/2; l.grows && !roomy {
		t.Errorf("%d bytes are free on a file system that has grown by %d", space.Free, largerBy)
	}
	must(t, g.UnmountAll())
}

// doesNotGrow has a disk grow whose file system is not as the plan has it.
func doesNotGrow(t *testing.T, g guest.Guest, l largerDisk, disk string) {
	before := partitions(g, disk)
	wantError(t, "Grow", g.Grow(t.Context(), plan(t, g, disk, l.was())), guest.ErrNotWhole)
	if diff := cmp.Diff(before, partitions(g, disk)); diff != "" {
		t.Error("its partitions have changed: ", diff)
	}
}

// plan takes a disk's last file system for whole, and plans what to do with it.
func plan(t *testing.T, g guest.Guest, disk string, from int64) guest.Resize {
	t.Helper()
	var checked []guest.Health
	if f, ok := g.Topology().Last(disk, guest.Enlarged{}); ok {
		checked = append(checked, guest.Health{Device: f.Device, State: guest.Clean})
	}
	return g.Topology().PlanResize(disk, guest.Enlarged{From: from, Checked: checked})
}

func partitions(g guest.Guest, disk string) []guest.Partition {
	for _, d := range g.Topology().Disks {
		if d.Name == disk {
			return slices.Clone(d.Partitions)
		}
	}
	return nil
}

func filesystem(t *testing.T, g guest.Guest, device string) guest.Filesystem {
	t.Helper()
	for _, f := range g.Topology().Filesystems {
		if f.Device == device {
			return f
		}
	}
	t.Fatal(fmt.Errorf("%s: %w", device, fs.ErrNotExist))
	return guest.Filesystem{}
}

// Grown looks at the disks of Larger after an engine has let go of them.
func Grown(t *testing.T, disks []string) {
	t.Helper()
	for i, l := range larger {
		if l.table == "" || l.damaged {
			continue
		}
		out, err := proc.Run(t.Context(), "sfdisk", "--verify", disks[i])
		if err != nil || !strings.Contains(string(out), "No errors detected") {
			t.Errorf("%s: sfdisk --verify: %v\n%s", l.name, err, out)
		}
	}
}
