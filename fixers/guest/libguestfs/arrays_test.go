//go:build appliance

package libguestfs

import (
	"flag"
	"path/filepath"
	"slices"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

var makeArrays = flag.Bool("make-arrays", false, "have mdadm make the disks of guesttest.Arrays anew")

// TestArraysAreMadeAnew writes the test data of guesttest.Arrays.
func TestArraysAreMadeAnew(t *testing.T) {
	if !*makeArrays {
		t.Skip("only with -make-arrays")
	}
	needVMs(t)
	disks := guesttest.BlankArrays(t)
	opened, err := Open(t.Context(), serve(t, disks), Options{TCG: true}, quiet)
	must(t, err)
	g := opened.(*engine)
	var devices []string
	for i := range disks {
		devices = append(devices, "/dev/disk/guestfs/"+label(i))
	}
	said, err := g.handle.Debug("sh", []string{guesttest.ArrayScript(devices)})
	t.Log(said)
	must(t, err)
	must(t, g.Close())
	guesttest.KeepArrays(t, disks, filepath.Join("..", "guesttest", "testdata", "arrays.gob.gz"))
}

// withoutMd takes from the topology what only md sees, and holds that to be there.
func withoutMd(t *testing.T, top guest.Topology) guest.Topology {
	leftToMd := func(device string) bool { return slices.Contains(guesttest.LeftToMd, device) }
	top.Volumes = slices.Clone(top.Volumes)
	for i := range top.Volumes {
		v := &top.Volumes[i]
		if leftToMd(v.Name) && v.Unsupported == "" {
			v.Unsupported = "it is a " + v.Array.Kind + ", which is left to md"
		}
	}
	all := len(top.Filesystems)
	top.Filesystems = slices.DeleteFunc(slices.Clone(top.Filesystems), func(f guest.Filesystem) bool { return leftToMd(f.Device) })
	if found := all - len(top.Filesystems); found != len(guesttest.LeftToMd) {
		t.Errorf("%d file systems are on what is left to md", found)
	}
	return top
}

// opensArrays reads and writes on all that is on arrays.
func opensArrays(t *testing.T, g *engine) {
	for device, want := range guesttest.OnArrays {
		must(t, g.Mount(device, "/"))
		if data, err := g.ReadFile("/name", 100); err != nil || string(data) != want+"\n" {
			t.Errorf("%s: ReadFile = %q, %v", device, data, err)
		}
		must(t, g.WriteFile("/last", 0, []byte("kept\n")))
		must(t, g.UnmountAll())
	}
}

// arraysAreClean looks into arrays that were written to, and closed.
func arraysAreClean(t *testing.T, disks []string) {
	g := directly(t, disks)
	for _, v := range g.Topology().Volumes {
		if v.Array != nil && v.Array.Dirty {
			t.Errorf("%s was not shut down", v.Name)
		}
	}
	must(t, g.Close())
}
