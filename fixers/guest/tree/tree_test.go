package tree_test

import (
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/tree"
)

func TestATreeIsAnEngine(t *testing.T) {
	guesttest.Run(t, func(*testing.T) guesttest.Disk { return tree.New() })
}

func TestATreeHasSubvolumes(t *testing.T) {
	top := tree.New()
	for _, s := range guesttest.OfBtrfs {
		text := s.Path
		if s.Path != "/" {
			makeAll(t, top, s.Path)
		}
		if s.ID == 262 || s.ID == 263 { // snapshots
			text = "/@rootfs"
		}
		if err := top.WriteFile(s.Path+"/where", 0, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	topology := guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk0", Type: "btrfs", Subvolumes: guesttest.OfBtrfs}, {Device: "disk1", Type: "ext4"}}}
	guesttest.Subvolumes(t, tree.NewGuest(topology, map[string]*tree.FS{"disk0": top, "disk1": tree.New()}), "disk0", "disk1")
}

func makeAll(t *testing.T, f *tree.FS, dir string) {
	t.Helper()
	for i, c := range dir + "/" {
		if c != '/' || i == 0 {
			continue
		}
		if _, err := f.Lstat(dir[:i]); err == nil {
			continue
		}
		if err := f.Mkdir(dir[:i], 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
