package direct

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

// needKind skips a test where the kernel does not know a file system; that of
// TestAFullKernelShowsAll does.
func needKind(t *testing.T, fstype string) {
	t.Helper()
	guesttest.Need(t, slices.Concat(guesttest.Programs, []string{"mkfs." + fstype})...)
	if err := known(fstype); err != nil {
		t.Skipf("the kernel has no %s: %v", fstype, err)
	}
}

func TestFATIsShownAsItIsPromised(t *testing.T) {
	needKind(t, "vfat")
	name := made(t, "vfat", 64<<20)
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	guesttest.FAT(t, suite{g})
	must(t, g.Close())
	requireNothingLeft(t, []string{name})
}

func TestWithoutFATAPartitionIsUnsupported(t *testing.T) {
	guesttest.Need(t, slices.Concat(guesttest.Programs, []string{"mkfs.vfat"})...)
	if known("vfat") == nil {
		t.Skip("this kernel has FAT")
	}
	if lacks := Lacks(); !slices.ContainsFunc(lacks, func(s string) bool { return strings.HasPrefix(s, "vfat (") }) {
		t.Errorf("Lacks = %q, without FAT", lacks)
	}
	g := openDisks(t, made(t, "vfat", 64<<20))
	if err := g.Mount("disk0", "/"); !errors.Is(err, ErrUnsupported) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("Mount = %v, want ErrUnsupported: %v", err, unix.ENODEV)
	}
	must(t, g.Close())
}

func TestBtrfsIsAnEngine(t *testing.T) {
	needKind(t, "btrfs")
	name := made(t, "btrfs", 320<<20)
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	guesttest.Run(t, func(t *testing.T) guesttest.Disk {
		must(t, guesttest.Clear(g))
		return suite{g}
	})
	must(t, g.Close())
	requireNothingLeft(t, []string{name})
}

// clone copies a disk, UUIDs included.
func clone(t *testing.T, disk string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "clone.raw")
	guesttest.Copy(t, disk, name)
	return name
}

func TestClonesOfOneTemplateAreShownSideBySide(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	for fstype, size := range map[string]int64{"ext4": 16 << 20, "xfs": 320 << 20} {
		t.Run(fstype, func(t *testing.T) {
			template := made(t, fstype, size)
			disks := []string{template, clone(t, template)}
			engines := []*shown{openDisks(t, disks[0]), openDisks(t, disks[1])}
			for i, g := range engines {
				must(t, g.Mount("disk0", "/"))
				must(t, g.WriteFile("/file", 0, []byte(disks[i])))
			}
			for i, g := range engines {
				if data, err := g.ReadFile("/file", 1000); err != nil || string(data) != disks[i] {
					t.Errorf("ReadFile of disk %d = %q, %v", i, data, err)
				}
				must(t, g.Close())
			}
			requireNothingLeft(t, disks)
		})
	}
}

func TestClonesOfABtrfsAreShownOneAfterTheOther(t *testing.T) {
	needKind(t, "btrfs")
	template := made(t, "btrfs", guesttest.BlankSize)
	disks := []string{template, clone(t, template)}
	first, second := openDisks(t, disks[0]), openDisks(t, disks[1])
	must(t, first.Mount("disk0", "/"))
	must(t, first.WriteFile("/file", 0, []byte("first")))
	turn := make(chan error, 1)
	go func() { turn <- second.Mount("disk0", "/") }()
	select {
	case err := <-turn:
		t.Fatalf("Mount of the clone = %v, while the first is shown", err)
	case <-time.After(2 * time.Second):
	}
	must(t, first.Close())
	must(t, <-turn)
	if _, err := second.ReadFile("/file", 10); err == nil {
		t.Error("the clone shows a file of the first")
	}
	must(t, second.WriteFile("/file", 0, []byte("second")))
	must(t, second.Close())
	again := openDisks(t, disks[0])
	must(t, again.Mount("disk0", "/"))
	if data, err := again.ReadFile("/file", 10); err != nil || string(data) != "first" {
		t.Errorf("ReadFile of the first = %q, %v", data, err)
	}
	must(t, again.Close())
	requireNothingLeft(t, disks)
}

func TestATurnThatDoesNotComeIsSaid(t *testing.T) {
	const uuid = "0d9a73e6-0000-48cb-b2d0-5a7e86c1932f"
	claim, err := claimBtrfs(uuid, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claimBtrfs(uuid, 100*time.Millisecond); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "another guest has shown a btrfs of its UUID for 100ms") {
		t.Errorf("the second claim = %v", err)
	}
	must(t, claim.Close())
	claim, err = claimBtrfs(uuid, 0)
	if err != nil {
		t.Fatal(err)
	}
	must(t, claim.Close())
}

// TestABtrfsOfTheSameGuestIsNotWaitedFor: nobody else lets go of it.
func TestABtrfsOfTheSameGuestIsNotWaitedFor(t *testing.T) {
	needKind(t, "btrfs")
	template := made(t, "btrfs", guesttest.BlankSize)
	disks := []string{template, clone(t, template)}
	g := openDisks(t, disks...)
	must(t, g.Mount("disk0", "/"))
	began := time.Now()
	if err := g.Mount("disk1", "/mnt"); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "another btrfs of this guest has its UUID") || time.Since(began) > turn/2 {
		t.Errorf("Mount of the second = %v after %v", err, time.Since(began))
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

// TestABtrfsThatIsRefusedIsForgotten: the kernel has seen a device before it
// refuses what is on it, and would take a clone, which is older, for an old copy.
func TestABtrfsThatIsRefusedIsForgotten(t *testing.T) {
	needKind(t, "btrfs")
	template := made(t, "btrfs", guesttest.BlankSize)
	future := clone(t, template)
	makeNewer(t, future)
	g := openDisks(t, future)
	err := g.Mount("disk0", "/")
	if !errors.Is(err, ErrUnsupported) || !errors.Is(err, unix.EINVAL) {
		t.Errorf("Mount = %v, want ErrUnsupported: %v", err, unix.EINVAL)
	}
	t.Log(err)
	other := openDisks(t, made(t, "ext4", 16<<20))
	must(t, other.Mount("disk0", "/")) // takes the loop device that it had
	old := openDisks(t, template)
	must(t, old.Mount("disk0", "/"))
	must(t, errors.Join(old.Close(), other.Close(), g.Close()))
	requireNothingLeft(t, []string{template, future})
}

// makeNewer gives a btrfs a later generation, and a feature that no kernel knows.
//
// Source: Linux include/uapi/linux/btrfs_tree.h, struct btrfs_super_block.
func makeNewer(t *testing.T, disk string) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(t, err)
	super := make([]byte, 4096)
	_, err = f.ReadAt(super, btrfsSuper)
	must(t, err)
	const checksum, generation, incompatible = 32, 72, 188
	super[generation] += 50
	super[incompatible+7] |= 0x80
	binary.LittleEndian.PutUint32(super, crc32.Checksum(super[checksum:], crc32.MakeTable(crc32.Castagnoli)))
	_, err = f.WriteAt(super, btrfsSuper)
	must(t, errors.Join(err, f.Close()))
}

func TestABtrfsOfTwoDevicesIsUnsupported(t *testing.T) {
	needKind(t, "btrfs")
	name := made(t, "btrfs", guesttest.BlankSize)
	writeByte(t, name, btrfsSuper+btrfsDevices, 2)
	g := openDisks(t, name)
	g.topology.Filesystems = []guest.Filesystem{{Device: "disk0", Type: "btrfs", Size: guesttest.BlankSize}} // whatever its checksum
	if err := g.Mount("disk0", "/"); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "2 devices") {
		t.Errorf("Mount = %v, want ErrUnsupported", err)
	}
	must(t, g.Close())
}

func TestManySubvolumesAreKnown(t *testing.T) {
	needKind(t, "btrfs")
	guesttest.Need(t, guesttest.SubvolumePrograms...)
	const n = 600 // their roots do not fit into one block
	g := openDisks(t, guesttest.ManySubvolumes(t, n))
	known := g.Topology().Filesystems[0].Subvolumes
	if len(known) != n+1 || len(g.topology.Problems) > 0 {
		t.Fatalf("%d subvolumes, problems %+v", len(known), g.topology.Problems)
	}
	for i, s := range known[1:] {
		if want := fmt.Sprintf("/%d", i); s.Path != want {
			t.Errorf("subvolume %d is %s, want %s", s.ID, s.Path, want)
		}
	}
	must(t, g.MountSubvolume("disk0", known[n].ID, "/"))
	must(t, g.Close())
}

func TestOneFileSystemIsMountedTwice(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := []string{made(t, "ext4", 16<<20)}
	g := openDisks(t, disks...)
	must(t, g.Mount("disk0", "/"))
	must(t, g.Mkdir("/again", 0o755))
	must(t, g.Mount("disk0", "/again"))
	must(t, g.WriteFile("/again/file", 0, []byte("seen at both\n")))
	if data, err := g.ReadFile("/file", 100); err != nil || string(data) != "seen at both\n" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	must(t, g.UnmountAll())
	wantHealth(t, g, guest.Clean)
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

func TestSubvolumesOfABtrfsAreShown(t *testing.T) {
	needKind(t, "btrfs")
	guesttest.Need(t, guesttest.SubvolumePrograms...)
	disks := []string{guesttest.Btrfs(t), made(t, "ext4", 16<<20)}
	g := openDisks(t, disks...)
	guesttest.Subvolumes(t, g, "disk0", "disk1")
	must(t, g.Close())
	requireNothingLeft(t, disks)
}
