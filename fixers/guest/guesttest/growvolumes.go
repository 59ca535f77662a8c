package guesttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// largerGroup is a disk that was made larger after LVM was given its last partition,
// or all of it: a group with a volume of one name, and swap space beside it.
type largerGroup struct {
	group, volume, table, fstype string
	start, size                  int64 // of the physical volume, MiB
	swapFirst, swapLast          bool
	has                          int64 // of the volume, MiB
	apart                        bool  // it lies in two pieces when it has grown
}

// As installers of Ubuntu, Red Hat and Debian lay it out, the last on a whole disk.
var largerGroups = []largerGroup{
	{"ubuntu-vg", "ubuntu-lv", "label: gpt\n,8M\n,120M\n", "ext4", 9, 120, false, false, 64, false},
	{"rhel", "root", "label: dos\n,8M,83,*\n,340M,8e\n", "xfs", 9, 340, true, false, 312, false},
	{"debian-vg", "root", "", "ext4", 0, 160, false, true, 64, true},
}

// LargerGroups makes disks that GrowVolumes lets an engine grow, in a folder of the
// test, by VolumePrograms.
func LargerGroups(t testing.TB) []string {
	t.Helper()
	return keptGroups.files(t)
}

var keptGroups = kept{name: "groups", make: makeGroups}

func makeGroups(t testing.TB) (disks []string) {
	t.Helper()
	dir := t.TempDir()
	for i, l := range largerGroups {
		disk, file := filepath.Join(dir, fmt.Sprintf("%d.raw", i)), filepath.Join(dir, "fs")
		sparse(t, disk, l.was())
		if l.table != "" {
			run(t, l.table, "sfdisk", "--quiet", disk)
		}
		first := l.start + 1 // MiB: extents begin at 1 MiB of a physical volume
		onLoops(t, []extent{l.pv(disk)}, func(on lvm) {
			on.run("vgcreate", l.group, on.devices[0])
			if l.swapFirst {
				on.volume(l.group, "swap", "-L16M")
				first += 16
			}
			on.volume(l.group, l.volume, fmt.Sprintf("-L%dM", l.has))
			if l.swapLast {
				on.volume(l.group, "swap", "-L16M")
			}
		})
		Make(t, file, l.fstype, l.has<<20)
		splice(t, file, disk, first<<20)
		run(t, "", "mkswap", part(t, dir, "swap", 16<<20))
		switch {
		case l.swapFirst:
			splice(t, filepath.Join(dir, "swap"), disk, (first-16)<<20)
		case l.swapLast:
			splice(t, filepath.Join(dir, "swap"), disk, (first+l.has)<<20)
		}
		if err := os.Truncate(disk, l.was()+largerBy); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, disk)
	}
	return disks
}

// was is how large a disk was: behind the physical volume is a GPT's second copy.
func (l largerGroup) was() int64 {
	if strings.HasPrefix(l.table, "label: gpt") {
		return (l.start + l.size + 1) << 20
	}
	return (l.start + l.size) << 20
}

func (l largerGroup) pv(disk string) extent { return extent{disk, l.start << 20, l.size << 20} }

// GrowVolumes holds an engine to its word about the disks of LargerGroups, the first of
// which is the guest's disk number first. mapped: it shows volumes in several pieces;
// else it refuses to make such ones, before it writes.
func GrowVolumes(t *testing.T, g guest.Guest, first int, mapped bool) {
	for i, l := range largerGroups {
		disk := fmt.Sprintf("disk%d", first+i)
		t.Run(l.group, func(t *testing.T) {
			if l.apart && !mapped {
				refusesPieces(t, g, l, disk)
				return
			}
			growVolume(t, g, l, disk)
		})
	}
}

func growVolume(t *testing.T, g guest.Guest, l largerGroup, disk string) {
	device := l.group + "/" + l.volume
	must(t, g.Mount(device, "/"))
	write(t, g, "/kept", strings.Repeat("kept\n", 10_000))
	r := planVolume(g, l, disk, l.was())
	must(t, g.UnmountAll())
	if r.Unused != "" || r.Volume == nil || r.Volume.Apart != l.apart {
		t.Fatalf("planned: %+v", r)
	}
	must(t, g.Grow(t.Context(), r))
	f := filesystem(t, g, device)
	if f.Size != r.Volume.To || f.Size-l.has<<20 < largerBy-8<<20 || f.Span < f.Size-16<<20 {
		t.Errorf("it has %d bytes, of which the file system spans %d; planned: %+v", f.Size, f.Span, r.Volume)
	}
	if h, err := g.Check(t.Context(), device); err != nil || h.State != guest.Clean {
		t.Errorf("Check = %+v, %v", h, err)
	}
	if again := planVolume(g, l, disk, r.To); !again.Empty() {
		t.Errorf("planning again gives %+v", again)
	}
	if err := g.Grow(t.Context(), r); err == nil {
		t.Error("what was planned before was done twice")
	}
	must(t, g.Mount(device, "/"))
	wantData(t, g, "/kept", strings.Repeat("kept\n", 10_000))
	space, err := g.Space("/")
	must(t, err)
	if space.Free < largerBy/2 {
		t.Errorf("%d bytes are free on a file system that has grown by %d", space.Free, largerBy)
	}
	must(t, g.UnmountAll())
}

func refusesPieces(t *testing.T, g guest.Guest, l largerGroup, disk string) {
	before := g.Topology()
	if err := g.Grow(t.Context(), planVolume(g, l, disk, l.was())); err == nil || !strings.Contains(err.Error(), "several pieces") {
		t.Errorf("Grow: error %v", err)
	}
	if f := filesystem(t, g, l.group+"/"+l.volume); f.Size != l.has<<20 || len(before.Filesystems) != len(g.Topology().Filesystems) {
		t.Errorf("it has grown: %+v", f)
	}
	must(t, g.Mount(l.group+"/"+l.volume, "/"))
	must(t, g.UnmountAll())
}

// planVolume takes a group's volume for the root, and its file system for whole.
func planVolume(g guest.Guest, l largerGroup, disk string, from int64) guest.Resize {
	device := l.group + "/" + l.volume
	checked := []guest.Health{{Device: device, State: guest.Clean}}
	return g.Topology().PlanResize(disk, guest.Enlarged{From: from, Checked: checked, Root: device})
}

// GrownVolumes has LVM look at the disks of LargerGroups after an engine has let go of
// them. mapped: as for GrowVolumes.
func GrownVolumes(t *testing.T, disks []string, mapped bool) {
	t.Helper()
	for i, l := range largerGroups {
		if l.apart && !mapped {
			continue
		}
		pv := l.pv(disks[i])
		pv.size += largerBy
		withLoops(t, []extent{pv}, func(on lvm) {
			on.run("vgck", l.group)
			sizes := fmt.Sprintf("%dm\n", (l.has<<20+gained(l))>>20)
			out, err := proc.Run(t.Context(), "lvm", on.with("lvs", "--noheadings", "--nosuffix", "--units", "m", "-o", "lv_size", l.group+"/"+l.volume)...)
			if err != nil || !strings.Contains(string(out), strings.TrimSuffix(sizes, "m\n")+".00") {
				t.Errorf("%s: lvs: %v\n%s, want %s", l.group, err, out, sizes)
			}
		})
	}
}

// gained is what a group gains of a disk that is larger by largerBy, with a MiB at its
// start for LVM, and extents of 4 MiB.
func gained(l largerGroup) int64 {
	const extent = 4
	return ((l.size-1+largerBy>>20)/extent - (l.size-1)/extent) * extent << 20
}
