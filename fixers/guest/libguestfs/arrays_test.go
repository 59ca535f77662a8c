//go:build appliance

package libguestfs

import (
	"bytes"
	"flag"
	"os"
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
	opened, err := open(t.Context(), serve(t, disks), Options{TCG: true}, quiet)
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

// TestWhatIsEncryptedIsOpenedWithItsKey launches for itself: this machine's kernel may
// have no device-mapper for the engine to agree with.
func TestWhatIsEncryptedIsOpenedWithItsKey(t *testing.T) {
	needVMs(t)
	guesttest.Need(t, guesttest.LockedPrograms...)
	disks, keys := guesttest.Locked(t), guesttest.Keys()
	worn := memberOfWorn(t, disks)
	g, err := Open(t.Context(), serve(t, disks), Options{TCG: true, Keys: keys}, quiet)
	must(t, err)
	t.Run("AsItIsPromised", func(t *testing.T) { guesttest.Unlocked(t, g) })
	t.Run("AndReadAgain", func(t *testing.T) { guesttest.UnlockedBefore(t, g) })
	must(t, keys.Check(g.Topology()))
	must(t, g.Close())
	arraysAreClean(t, disks)
	if !bytes.Equal(worn, memberOfWorn(t, disks)) {
		t.Error("an array that was only looked at has changed")
	}
	for _, disk := range disks {
		data, err := os.ReadFile(disk)
		must(t, err)
		if bytes.Contains(data, []byte("written to")) {
			t.Errorf("what was written can be read on %s", disk)
		}
	}
}

// memberOfWorn is the member of md/worn, which md would count up as soon as it starts
// an array that lacks one.
func memberOfWorn(t *testing.T, disks []string) []byte {
	t.Helper()
	data, err := os.ReadFile(disks[1])
	must(t, err)
	return data[93<<20 : 105<<20]
}
