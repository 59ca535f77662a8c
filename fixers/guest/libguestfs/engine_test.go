//go:build appliance

package libguestfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/pipeline/proc"
)

// disk adds to the engine what the suite needs to make.
type disk struct{ *engine }

func (d disk) Link(old, name string) error { return wrap("link", name, d.handle.Ln(old, name)) }
func (d disk) Pipe(name string) error      { return wrap("mkfifo", name, d.handle.Mkfifo(0o600, name)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needVMs(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts a virtual machine: set NEED_VMS=1")
	}
	guesttest.Need(t, slices.Concat(guesttest.Programs, guesttest.VolumePrograms, guesttest.CheckPrograms, guesttest.GrowPrograms, guesttest.SubvolumePrograms, []string{"qemu-nbd"})...)
}

// serve exports raw disks over NBD.
func serve(t *testing.T, disks []string) []Export {
	t.Helper()
	dir := t.TempDir()
	var exports []Export
	for i, disk := range disks {
		e := Export{Socket: filepath.Join(dir, fmt.Sprintf("nbd%d", i)), Name: fmt.Sprintf("export%d", i)}
		server, err := proc.Start(t.Context(), proc.Service{Socket: e.Socket, Command: proc.Command{Name: "qemu-nbd", Args: []string{
			"--format=raw", "--persistent", "--shared=0", "--socket=" + e.Socket, "--export-name=" + e.Name, disk}}})
		must(t, err)
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		exports = append(exports, e)
	}
	return exports
}

var quiet = slog.New(slog.DiscardHandler)

// mountAll mounts ext4, the XFS inside it and the other file systems, and
// returns all files.
func mountAll(t *testing.T, g guest.Guest) map[string]tree.File {
	t.Helper()
	for _, m := range [][2]string{{"disk0p1", "/"}, {guesttest.XFSDevice, "/alias"}, {"disk0p6", "/mnt/ext3"}, {"disk1p4", "/mnt/ext2"}, {"disk2", "/usr/data/deep"}} {
		if err := g.Mount(m[0], m[1]); err != nil {
			t.Fatal(err)
		}
	}
	files, err := tree.Read(g)
	must(t, err)
	return files
}

func directly(t *testing.T, disks []string) guest.Guest {
	t.Helper()
	g, err := direct.Open(t.Context(), disks, nil, quiet)
	must(t, err)
	return g
}

// furnish prepares the disks of guesttest for mountAll, with strange files.
func furnish(t *testing.T, disks []string) {
	t.Helper()
	g := directly(t, disks)
	must(t, g.Mount("disk0p1", "/"))
	for _, dir := range []string{"/usr", "/usr/data", "/mnt", "/mnt/ext2", "/mnt/ext3"} {
		must(t, g.Mkdir(dir, 0o755))
	}
	must(t, g.Symlink("/usr/data", "/alias"))
	must(t, g.Mount(guesttest.XFSDevice, "/alias"))
	must(t, g.Mkdir("/alias/deep", 0o755))
	for _, name := range []string{"/alias/with space", "/alias/new\nline", "/alias/\xff", "/alias/acl"} {
		must(t, g.WriteFile(name, 0, []byte(name+"\n")))
		must(t, g.SetMeta(name, guest.Meta{Mode: 0o640, UID: 1, GID: 4_000_000_000, Xattrs: map[string][]byte{
			"security.selinux": []byte("etc_t\x00"), "user.x": {0, 255}, "trusted.overlay.opaque": []byte("y")}}))
	}
	must(t, g.Symlink("../../../../../etc/shadow", "/alias/out"))
	must(t, g.Close())
}

// TestTheEnginesAgree launches once for everything: a launch is slow.
func TestTheEnginesAgree(t *testing.T) {
	needVMs(t)
	disks := guesttest.Disks(t)
	furnish(t, disks)
	for _, fstype := range []string{"ext4", "xfs"} {
		name := filepath.Join(t.TempDir(), fstype+".raw")
		guesttest.Make(t, name, fstype, 320<<20)
		disks = append(disks, name)
	}
	disks = append(disks, guesttest.Volumes(t)...)
	checked := fmt.Sprintf("disk%d", len(disks))
	disks = append(disks, guesttest.Checks(t, func(disk string) guest.Guest { return directly(t, []string{disk}) }))
	blank := fmt.Sprintf("disk%d", len(disks))
	disks = append(disks, guesttest.Blank(t, 3))
	subvolumes := fmt.Sprintf("disk%d", len(disks))
	disks = append(disks, guesttest.Btrfs(t))
	firstLarger := len(disks)
	disks = append(disks, guesttest.Larger(t)...)
	firstGroup := len(disks)
	disks = append(disks, guesttest.LargerGroups(t)...)
	firstArray := len(disks)
	disks = append(disks, guesttest.Arrays(t)...)
	reference := directly(t, disks)
	wantTopology, want := reference.Topology(), mountAll(t, reference)
	must(t, reference.Close())

	began := time.Now()
	opened, err := open(t.Context(), serve(t, disks), Options{TCG: true}, quiet)
	must(t, err)
	t.Logf("launched in %v", time.Since(began))
	g := opened.(*engine)
	closed := false
	t.Cleanup(func() {
		if !closed {
			g.Close()
		}
	})

	t.Run("OnTheTopology", func(t *testing.T) {
		if diff := cmp.Diff(wantTopology, withoutMd(t, g.Topology())); diff != "" {
			t.Error("direct says -, libguestfs says +:\n", diff)
		}
	})
	t.Run("OnACPUWithoutWhatIsFlawed", func(t *testing.T) {
		flags, err := g.handle.Debug("sh", []string{"grep -m1 ^flags /proc/cpuinfo"})
		if must(t, err); !strings.Contains(flags, " avx2 ") || strings.Contains(flags, " cx16 ") || strings.Contains(flags, " la57 ") {
			t.Errorf("the flags of its CPU: %s", flags)
		}
	})
	t.Run("OnArrays", func(t *testing.T) { opensArrays(t, g) })
	t.Run("OnVolumes", func(t *testing.T) { opensVolumes(t, g) })
	t.Run("AndPartedWithThem", func(t *testing.T) {
		for i, device := range []string{"/dev/sda", "/dev/sdb"} {
			list, err := g.handle.Part_list(device)
			must(t, err)
			for j, p := range g.Topology().Disks[i].Partitions {
				if found := (*list)[j]; int(found.Part_num) != p.Number || int64(found.Part_start) != p.Start || int64(found.Part_size) != p.Size {
					t.Errorf("parted says %+v, we %+v", found, p)
				}
			}
		}
		id, err := g.handle.Part_get_disk_guid("/dev/sdb")
		if must(t, err); !strings.EqualFold(id, g.Topology().Disks[1].ID) {
			t.Errorf("sgdisk says the disk is %s", id)
		}
		kind, err := g.handle.Part_get_gpt_type("/dev/sdb", 4)
		if must(t, err); !strings.EqualFold(kind, g.Topology().Disks[1].Partitions[1].Type) {
			t.Errorf("sgdisk says the partition's type is %s", kind)
		}
	})
	t.Run("OnEveryFile", func(t *testing.T) {
		began := time.Now()
		got := mountAll(t, g)
		t.Logf("mounted and read %d files in %v", len(got), time.Since(began))
		if diff := tree.DiffFiles(want, got); diff != "" {
			t.Error("direct says -, libguestfs says +:\n", diff)
		}
		if len(got) < 25 {
			t.Errorf("only %d files were compared", len(got))
		}
		must(t, g.UnmountAll())
	})
	for _, device := range []string{"disk3", "disk4"} {
		t.Run("OnWhatIsPromised/"+device, func(t *testing.T) {
			must(t, g.Mount(device, "/"))
			guesttest.Run(t, func(t *testing.T) guesttest.Disk {
				must(t, guesttest.Clear(g))
				return disk{g}
			})
			must(t, guesttest.Clear(g))
			must(t, g.WriteFile("/last", 0, []byte("kept\n")))
			must(t, g.UnmountAll())
		})
	}
	t.Run("OnWhatIsDamaged", func(t *testing.T) { guesttest.Check(t, g, checked) })
	t.Run("OneChecksMore", func(t *testing.T) { checksMore(t, g, blank) })
	t.Run("OnSubvolumes", func(t *testing.T) { guesttest.Subvolumes(t, g, subvolumes, "disk2") })
	all := os.Getenv("NEED_VMS") == "matrix" // the other engine grows each of them, always
	t.Run("OnWhatHasGrown", func(t *testing.T) {
		if !all {
			t.Skip("set NEED_VMS=matrix")
		}
		guesttest.Grow(t, g, firstLarger)
		guesttest.GrowVolumes(t, g, firstGroup, true)
	})
	t.Run("OneGrowsBeneathVolumes", func(t *testing.T) { growsBeneathVolumes(t, g) })
	t.Run("OnWhatIsNotMounted", func(t *testing.T) {
		for _, device := range []string{"disk99", "disk0p3", "disk0p5"} {
			if err := g.Mount(device, "/"); err == nil {
				t.Errorf("%s was mounted", device)
			}
		}
		must(t, g.Mount("disk0p1", "/"))
		if err := g.Mount("disk0p6", "/magic"); err == nil {
			t.Error("mounted through a link out of the root")
		}
	})
	closed = true
	must(t, g.Close())
	if all {
		guesttest.Grown(t, disks[firstLarger:firstGroup])
		guesttest.GrownVolumes(t, disks[firstGroup:firstArray], true)
	}

	after := directly(t, disks)
	for _, device := range []string{"disk3", "disk4"} {
		must(t, after.Mount(device, "/"))
		if data, err := after.ReadFile("/last", 10); err != nil || string(data) != "kept\n" {
			t.Errorf("%s after Close: %q, %v", device, data, err)
		}
		must(t, after.UnmountAll())
	}
	must(t, after.Close())

	arraysAreClean(t, disks[firstArray:])

	// The first extent of the volume group's first disk, behind a partition table.
	root := filepath.Join(t.TempDir(), "root.raw")
	copyPart(t, disks[5], root, 2<<20, 64<<20)
	volume := directly(t, []string{root})
	must(t, volume.Mount("disk0", "/"))
	if data, err := volume.ReadFile("/last", 10); err != nil || string(data) != "kept\n" {
		t.Errorf("web-vg/root after Close: %q, %v", data, err)
	}
	must(t, volume.Close())
}

// onVolume tells of what is on a logical volume of guesttest.Volumes.
func onVolume(f guest.Filesystem) bool {
	return strings.HasPrefix(f.Device, "web-vg/") || strings.HasPrefix(f.Device, "half/")
}

// opensVolumes looks into the logical volumes of guesttest.Volumes.
func opensVolumes(t *testing.T, g guest.Guest) {
	var got []guest.Filesystem
	for _, f := range g.Topology().Filesystems {
		if onVolume(f) {
			got = append(got, f)
		}
	}
	if diff := cmp.Diff(guesttest.OnVolumes, got); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	for _, m := range [][2]string{{"web-vg/root", "/"}, {"web-vg/both", "/srv"}, {"half/kept", "/srv/lost+found"}} {
		must(t, g.Mount(m[0], m[1]))
	}
	if data, err := g.ReadFile("/absolute", 1000); err != nil || string(data) != "/dev/sda1 / ext4\n" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	must(t, g.WriteFile("/last", 0, []byte("kept\n")))
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	must(t, g.WriteFile("/srv/large", 0, large)) // over many stripes
	if data, err := g.ReadFile("/srv/large", 2<<20); err != nil || !bytes.Equal(data, large) {
		t.Errorf("ReadFile = %d bytes, %v", len(data), err)
	}
	must(t, g.UnmountAll())
	for _, device := range []string{"half/lost", "twin/one", "web-vg/none", "web-vg/../sda"} {
		if err := g.Mount(device, "/"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Mount(%s): error %v, want ErrNotExist", device, err)
		}
	}
}

// growsBeneathVolumes has the partition of a physical volume grow, of which the
// appliance's LVM has volumes open.
func growsBeneathVolumes(t *testing.T, g *engine) {
	r := g.Topology().PlanResize("disk5", guest.Enlarged{From: 128 << 20})
	if len(r.Partitions) != 1 || r.Partitions[0].To != 127<<20 || r.Member == nil || !strings.Contains(r.Unused, "it is not clear which") {
		t.Fatalf("planned: %+v", r)
	}
	must(t, g.Grow(t.Context(), r))
	if size, err := g.handle.Blockdev_getsize64(g.devices["disk5p1"]); err != nil || size != 126<<20 {
		t.Errorf("the kernel has a partition of %d bytes, %v", size, err)
	}
	must(t, g.Mount("web-vg/root", "/"))
	if data, err := g.ReadFile("/last", 10); err != nil || string(data) != "kept\n" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	must(t, g.UnmountAll())
}

// hibernates makes of an NTFS that is mounted one that Windows has hibernated.
func hibernates(t *testing.T, g *engine, device string) {
	must(t, g.WriteFile("/hiberfil.sys", 0, append([]byte("HIBR"), make([]byte, 8<<10)...)))
	must(t, g.UnmountAll())
	must(t, g.Mount(device, "/"))
	if f, _ := g.filesystem(device); !f.Unclean {
		t.Errorf("%+v, though it was hibernated", f)
	}
	if err := g.WriteFile("/file", 0, nil); err == nil {
		t.Error("a file system is written that Windows has hibernated")
	}
}

// checksMore lets file systems be checked that not every kernel shows to the direct
// engine, on the partitions of a blank disk: whole, and damaged afterwards.
func checksMore(t *testing.T, g *engine, disk string) {
	for i, c := range []struct {
		fstype string
		want   guest.Condition
		damage func(testing.TB, guesttest.Device)
	}{
		{"vfat", guest.Clean, guesttest.DamageFAT},
		{"btrfs", guest.Clean, guesttest.DamageBtrfs},
		{"ntfs", guest.Unchecked, nil},
	} {
		name := fmt.Sprintf("%sp%d", disk, i+1)
		device := g.devices[name]
		must(t, g.handle.Mkfs(c.fstype, device, nil))
		if found, err := g.identify(name, guesttest.BlankSize); !found || err != nil {
			t.Fatalf("%s: identify = %v, %v", c.fstype, found, err)
		}
		must(t, g.Mount(name, "/"))
		switch c.fstype {
		case "vfat":
			guesttest.FAT(t, g)
		case "ntfs":
			guesttest.NTFS(t, g)
			hibernates(t, g, name)
		default:
			must(t, g.WriteFile("/file", 0, []byte("content\n")))
		}
		must(t, g.UnmountAll())
		if h, err := g.Check(t.Context(), name); err != nil || h.State != c.want {
			t.Errorf("Check of %s = %+v, %v, want %s", c.fstype, h, err, c.want)
		}
		if c.damage == nil {
			continue
		}
		c.damage(t, written{raw{g.handle, device}})
		if h, err := g.Check(t.Context(), name); err != nil || h.State != guest.Damaged {
			t.Errorf("Check of a damaged %s = %+v, %v", c.fstype, h, err)
		}
	}
}

// written is a device of which a test also writes bytes.
type written struct{ raw }

func (w written) WriteAt(p []byte, off int64) (int, error) {
	return w.handle.Pwrite_device(w.device, p, off)
}

func copyPart(t *testing.T, from, to string, offset, size int64) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	data := make([]byte, size)
	_, err = in.ReadAt(data, offset)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o600))
}

func TestALaunchThatTakesTooLongIsKilled(t *testing.T) {
	needVMs(t)
	name := filepath.Join(t.TempDir(), "disk.raw")
	guesttest.Make(t, name, "ext4", 16<<20)
	exports := serve(t, []string{name})
	began := time.Now()
	_, err := Open(t.Context(), exports, Options{TCG: true, Deadline: 3 * time.Second}, quiet)
	if !errors.Is(err, ErrLaunch) {
		t.Errorf("Open: error %v, want ErrLaunch", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("giving up took %v", took)
	}
	requireNoQEMU(t, exports[0].Socket)

	why := errors.New("operator")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(2*time.Second, func() { cancel(why) })
	if _, err := Open(ctx, exports, Options{TCG: true}, quiet); !errors.Is(err, why) {
		t.Errorf("Open: error %v, want the cause", err)
	}
	requireNoQEMU(t, exports[0].Socket)
	conn, err := net.Dial("unix", exports[0].Socket) // another child of ours: not to be killed
	if err != nil {
		t.Fatal(err)
	}
	must(t, conn.Close())
}

// requireNoQEMU fails if a QEMU that uses the socket is left.
func requireNoQEMU(t *testing.T, socket string) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, name := range found {
		args, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(args), socket) && strings.Contains(string(args), "qemu-system") {
			t.Errorf("%s is left: %q", name, args)
		}
	}
}
