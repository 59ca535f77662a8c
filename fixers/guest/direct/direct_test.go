package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/tree"
)

// suite adds to the engine what the suite needs to make: a test sees what a process
// has mounted through the kernel's name of it.
type suite struct{ *shown }

func (d suite) path(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", d.mounter.Pid(), filepath.Join(os.TempDir(), rootFolder, name))
}

func (d suite) Link(old, name string) error { return unix.Link(d.path(old), d.path(name)) }

func (d suite) Pipe(name string) error { return unix.Mkfifo(d.path(name), 0o600) }

func openDisks(t testing.TB, disks ...string) *shown {
	t.Helper()
	g, err := Open(context.Background(), disks, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g.(*shown)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func made(t *testing.T, fstype string, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	guesttest.Make(t, name, fstype, size)
	return name
}

func TestFileSystemsOfTheKernelAreAnEngine(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	for _, fstype := range []string{"ext2", "ext3", "ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "disk.raw")
			guesttest.Make(t, name, fstype, 320<<20)
			g := openDisks(t, name)
			must(t, g.Mount("disk0", "/"))
			guesttest.Run(t, func(t *testing.T) guesttest.Disk {
				must(t, guesttest.Clear(g))
				return suite{g}
			})
			must(t, g.Close())
		})
	}
}

// remembering is a suite's guest of which what was read is remembered. What is made beside
// it is not seen before something is written.
type remembering struct {
	guest.Guest
	suite suite
}

func (r remembering) Link(old, name string) error {
	return errors.Join(r.SetMeta("/", guest.Meta{Mode: 0o755}), r.suite.Link(old, name))
}

func (r remembering) Pipe(name string) error {
	return errors.Join(r.SetMeta("/", guest.Meta{Mode: 0o755}), r.suite.Pipe(name))
}

func TestAGuestOfWhichThingsAreRememberedIsAsAnyOther(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	g := openDisks(t, made(t, "ext4", guesttest.BlankSize))
	r := remembering{guest.Remember(g), suite{g}}
	must(t, r.Mount("disk0", "/"))
	guesttest.Run(t, func(t *testing.T) guesttest.Disk {
		must(t, guesttest.Clear(r))
		return r
	})
}

func TestTopologyOfRealTables(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	g := openDisks(t, guesttest.Disks(t)...)
	want := guest.Topology{
		Disks: []guest.Disk{
			{Name: "disk0", Size: 448 << 20, Table: "mbr", ID: "deadbe01", BootCode: "GRUB", Partitions: []guest.Partition{
				{Name: "disk0p1", Number: 1, Start: 1 << 20, Size: 32 << 20, Type: "83", UUID: "deadbe01-01"},
				{Name: "disk0p2", Number: 2, Start: 33 << 20, Size: 320 << 20, Type: "83", UUID: "deadbe01-02"},
				{Name: "disk0p3", Number: 3, Start: 353 << 20, Size: 95 << 20, Type: "0f", UUID: "deadbe01-03"},
				{Name: "disk0p5", Number: 5, Start: 354 << 20, Size: 16 << 20, Type: "82", UUID: "deadbe01-05"},
				{Name: "disk0p6", Number: 6, Start: 371 << 20, Size: 16 << 20, Type: "83", UUID: "deadbe01-06"},
				{Name: "disk0p7", Number: 7, Start: 388 << 20, Size: 8 << 20, Type: "8e", UUID: "deadbe01-07"},
			}},
			{Name: "disk1", Size: 64 << 20, Table: "gpt", ID: "0c7d5e1a-0000-4000-8000-0000000000aa", Usable: 64<<20 - 33*512, Backup: 64<<20 - 512, Partitions: []guest.Partition{
				{Name: "disk1p1", Number: 1, Start: 1 << 20, Size: 1 << 20, Type: "21686148-6449-6e6f-744e-656564454649",
					UUID: "0c7d5e1a-0000-4000-8000-000000000001", Label: "BIOS boot"},
				{Name: "disk1p4", Number: 4, Start: 2 << 20, Size: 16 << 20, Type: "0fc63daf-8483-4772-8e79-3d69d8477de4",
					UUID: "0c7d5e1a-0000-4000-8000-000000000004", Label: "Daten ä"},
			}},
			{Name: "disk2", Size: 16 << 20},
		},
		Filesystems: []guest.Filesystem{
			{Device: "disk0p1", Type: "ext4", UUID: "11111111-2222-4333-8444-555555555501", Label: "root fs", Size: 32 << 20, Span: 32 << 20},
			{Device: "disk0p2", Type: "xfs", UUID: "11111111-2222-4333-8444-555555555502", Label: "data", Size: 320 << 20, Span: 320 << 20},
			{Device: "disk0p5", Type: "swap", UUID: "11111111-2222-4333-8444-555555555503", Label: "swap", Size: 16 << 20},
			{Device: "disk0p6", Type: "ext3", UUID: "11111111-2222-4333-8444-555555555504", Label: "ü \\x \"q", Size: 16 << 20, Span: 16 << 20},
			{Device: "disk1p4", Type: "ext2", UUID: "11111111-2222-4333-8444-555555555505", Label: "old", Size: 16 << 20, Span: 16 << 20},
			{Device: "disk2", Type: "ext4", UUID: "11111111-2222-4333-8444-555555555506", Label: "whole", Size: 16 << 20, Span: 16 << 20},
		},
	}
	if diff := cmp.Diff(want, g.Topology()); diff != "" {
		t.Error("Topology (-want +got):\n", diff)
	}
	must(t, g.Close())
}

func TestFileSystemsAreMountedInsideEachOther(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := guesttest.Disks(t)
	start := time.Now()
	g := openDisks(t, disks...)
	opened := time.Since(start)
	must(t, g.Mount("disk0p1", "/"))
	data, err := g.ReadFile("/absolute", 1000)
	if err != nil || string(data) != "/dev/sda1 / ext4\n" {
		t.Fatalf("ReadFile = %q, %v", data, err)
	}
	t.Logf("three disks opened in %v, mounted and read in %v", opened, time.Since(start)-opened)

	for _, dir := range []string{"/boot", "/usr", "/usr/data"} {
		must(t, g.Mkdir(dir, 0o755))
	}
	must(t, g.Symlink("/usr/data", "/alias"))
	must(t, g.Mount(guesttest.XFSDevice, "/alias"))
	must(t, g.Mkdir("/alias/deep", 0o755))
	must(t, g.Mount("disk2", "/usr/data/deep"))
	must(t, g.WriteFile("/alias/deep/file", 0, []byte("on the third\n")))
	must(t, g.WriteFile("/usr/data/file", 0, []byte("on XFS\n")))
	must(t, g.Symlink("/etc/fstab", "/usr/data/deep/link"))
	if data, err := g.ReadFile("/alias/deep/link", 1000); err != nil || len(data) != 17 {
		t.Errorf("ReadFile from one mount to another = %q, %v", data, err)
	}
	files, err := tree.Read(g)
	must(t, err)
	for _, name := range []string{"/usr/data/deep/file", "/usr/data/file", "/pipe", "/device"} {
		if _, ok := files[name]; !ok {
			t.Errorf("%s is not among the files", name)
		}
	}
	must(t, g.UnmountAll())
	if _, err := g.Lstat("/"); err == nil {
		t.Error("files are seen after UnmountAll")
	}
	must(t, g.Mount("disk2", "/"))
	if data, err := g.ReadFile("/file", 1000); string(data) != "on the third\n" {
		t.Errorf("ReadFile after another mount = %q, %v", data, err)
	}
	must(t, g.Close())

	again := openDisks(t, disks...)
	must(t, again.Mount(guesttest.XFSDevice, "/"))
	if data, err := again.ReadFile("/file", 1000); string(data) != "on XFS\n" {
		t.Errorf("ReadFile after Close = %q, %v", data, err)
	}
	must(t, again.Close())
}

func TestWhatCannotBeMountedIsUnsupported(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := guesttest.Disks(t)
	future, damaged := filepath.Join(t.TempDir(), "future.raw"), filepath.Join(t.TempDir(), "damaged.raw")
	for _, name := range []string{future, damaged} {
		guesttest.Make(t, name, "ext3", 16<<20) // which has no checksums
	}
	setBit(t, future, 1024+0x60+3, 0x80) // bit 31 of the incompatible features: no kernel knows it
	setBit(t, damaged, 2048+3, 0x80)     // the first group's bitmap is behind the end
	disks = append(disks, future, damaged)

	g := openDisks(t, disks...)
	for _, device := range []string{"disk0p5", "disk3"} {
		if err := g.Mount(device, "/"); !errors.Is(err, ErrUnsupported) {
			t.Errorf("Mount(%s): error %v, want ErrUnsupported", device, err)
		}
	}
	if err := g.Mount("disk4", "/"); !errors.Is(err, unix.EUCLEAN) || errors.Is(err, ErrUnsupported) {
		t.Errorf("Mount of a damaged file system: error %v, want EUCLEAN", err)
	}
	for _, device := range []string{"disk9", "disk0p3", "disk0p7"} {
		if err := g.Mount(device, "/"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Mount(%s): error %v, want ErrNotExist", device, err)
		}
	}
	must(t, g.Mount("disk0p1", "/"))
	if err := g.Mount("disk0p6", "/magic"); err == nil {
		t.Error("mounted through a link out of the root")
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

func setBit(t *testing.T, name string, at int64, bit byte) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, errors.Join(err, f.Close()))
	writeByte(t, name, at, b[0]|bit)
}

func writeByte(t *testing.T, name string, at int64, value byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{value}, at)
	must(t, errors.Join(err, f.Close()))
}

func TestBinaryAttributesAndTimesOfLinksAreKept(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	name := filepath.Join(t.TempDir(), "disk.raw")
	guesttest.Make(t, name, "ext4", 16<<20)
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	must(t, g.Symlink("/nowhere", "/link"))
	want := guest.Meta{Mode: fs.ModePerm, Xattrs: map[string][]byte{"trusted.binary": {0, 1, 0, 255}}, MTime: time.Unix(123456789, 987654321)}
	must(t, g.SetMeta("/link", want))
	got, err := guest.StateOf(g, "/link")
	must(t, err)
	if diff := cmp.Diff(want, got.Meta); diff != "" {
		t.Error(diff)
	}
	must(t, g.Close())
}

func TestProbeSaysYesByUsingIt(t *testing.T) {
	guesttest.Need(t)
	if err := Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	name := filepath.Join(t.TempDir(), "disk.raw")
	guesttest.Make(t, name, "ext4", 16<<20)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("operator")
	cancel(why)
	if _, err := Open(ctx, []string{name}, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, why) {
		t.Errorf("Open: error %v, want the cause", err)
	}
}

func TestAFolderForTemporaryFilesMayBeALink(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := guesttest.Disks(t)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(t.TempDir(), link))
	t.Setenv("TMPDIR", link)
	g := openDisks(t, disks...)
	must(t, g.Mount("disk0p1", "/"))
	must(t, g.Mount(guesttest.XFSDevice, "/srv"))
	must(t, g.Close())
}

func TestAFileThatIsLookedAtForAMomentDoesNotStopTheUnmount(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	g := openDisks(t, guesttest.Disks(t)...)
	must(t, g.Mount("disk0p1", "/"))
	fd, err := unix.Open(suite{g}.path("/"), unix.O_PATH, 0)
	must(t, err)
	closed := make(chan error, 1)
	time.AfterFunc(200*time.Millisecond, func() { closed <- unix.Close(fd) })
	must(t, g.UnmountAll())
	must(t, <-closed)
	must(t, g.Close())
}

func TestAGuestThatIsClosedStaysClosed(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	g := openDisks(t, guesttest.Disks(t)...)
	must(t, g.Mount("disk0p1", "/"))
	must(t, g.Close())
	must(t, g.Close())
	must(t, g.UnmountAll())
	if err := g.Mount("disk0p1", "/"); err == nil {
		t.Error("a closed guest can be mounted")
	}
	if _, err := g.ReadFile("/etc/fstab", 1000); err == nil {
		t.Error("a closed guest can be read")
	}
}

func TestALargerDiskIsPutToUse(t *testing.T) {
	guesttest.Need(t, slices.Concat(guesttest.Programs, guesttest.CheckPrograms, guesttest.GrowPrograms)...)
	disks := guesttest.Larger(t)
	g := openDisks(t, disks...)
	guesttest.Grow(t, g, 0)
	must(t, g.Close())
	guesttest.Grown(t, disks)
}

func TestAGroupOnALargerDiskGrows(t *testing.T) {
	needVolumes(t)
	guesttest.Need(t, slices.Concat(guesttest.CheckPrograms, guesttest.GrowPrograms)...)
	disks := guesttest.LargerGroups(t)
	g := openDisks(t, disks...)
	mapped := NoMapper() == nil
	guesttest.GrowVolumes(t, g, 0, mapped)
	must(t, g.Close())
	requireNothingLeft(t, disks)
	guesttest.GrownVolumes(t, disks, mapped)

	again := openDisks(t, disks...) // as it is read, not as it was kept in mind
	if diff := cmp.Diff(g.Topology(), again.Topology()); diff != "" {
		t.Error("what was grown -, what is read +:\n", diff)
	}
	must(t, again.Close())
}
