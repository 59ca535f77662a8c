package guests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"

	"hyper2kvm/pipeline/proc"
)

func TestAFolderWithoutARecordIsNoGuest(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web01.vmdk"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open = %v, want fs.ErrNotExist", err)
	}
}

func TestARecordedGuestReadsBack(t *testing.T) {
	dir := t.TempDir()
	b := &build{Guest: Guest{Recipe: web01, Initrds: map[string][]string{"6.1": {"ext4"}}}.in(dir)}
	if err := os.WriteFile(b.VMDK, []byte("disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.record(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	// echo -n disk | sha256sum
	b.SHA256 = "1044dec7206e8d7c9fbb4ae8f766668406d2567fc7fc1a160a9d4700fcf8f8e9"
	if diff := cmp.Diff(b.Guest, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestALockWaitsForItsHolderAndGivesUpWithTheContext(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("no more patience")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, why)
	defer cancel()
	if _, err := lock(ctx, name); !errors.Is(err, why) {
		t.Errorf("second lock = %v, want %v", err, why)
	}
	unlock()
	again, err := lock(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// TestASparseFileIsPlacedOnItsDisk has data at both ends and a hole between.
func TestASparseFileIsPlacedOnItsDisk(t *testing.T) {
	file, disk := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "disk")
	want := make([]byte, 4*mib)
	copy(want[mib:], "head")
	copy(want[3*mib-4:], "tail")
	if err := os.WriteFile(disk, bytes.Repeat([]byte{0}, int(4*mib)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := createSparse(file, 2*mib); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at, text := range map[int64]string{0: "head", 2*mib - 4: "tail"} {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Close(), place(file, disk, mib)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the disk does not hold the file's bytes at its place")
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestLVMPutsVolumesWhereTheirFileSystemsAre asks LVM itself where they are.
func TestLVMPutsVolumesWhereTheirFileSystemsAre(t *testing.T) {
	needTools(t, "lvm")
	b := &build{Guest: Guest{Recipe: db01}, dir: t.TempDir()}
	p := db01.Disks[0].Partitions[2]
	if err := createSparse(b.raw(0), p.Size); err != nil {
		t.Fatal(err)
	}
	if err := b.makeGroup(t.Context(), p, 0, 0); err != nil {
		t.Fatal(err)
	}
	err := onLoop(b.raw(0), func(device string) error {
		starts, err := b.lvm(t.Context(), device, "lvs", "--noheadings", "--nosuffix", "--units", "b",
			"--options", "lv_name,lv_size,seg_start_pe,seg_pe_ranges")
		var want, got []string
		for i, v := range p.Group.volumes(0, 0) {
			first := (v.start - firstExtent) / extent
			want = append(want, fmt.Sprintf("%s %d 0 %s:%d-%d", p.Group.Volumes[i].Name, v.Size, device, first, first+v.Size/extent-1))
		}
		for line := range strings.Lines(string(starts)) {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		// By name: LVM would order seg_pe_ranges by the addresses of its own lists.
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if err != nil {
			return err
		}
		layout, err := b.lvm(t.Context(), device, "pvs", "--noheadings", "--nosuffix", "--units", "b", "--options", "vg_name,pe_start,vg_extent_size")
		if want := fmt.Sprintf("db01-vg %d %d", firstExtent, extent); strings.Join(strings.Fields(string(layout)), " ") != want {
			t.Errorf("the group is %q, want %q", layout, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// holds is what makes each guest hard to move: parts of its files.
var holds = map[string]map[string][]string{
	"web01": {
		"/etc/fstab": {web01.byPath(0) + "-part1 / ext4", web01.byPath(0) + "-part2 none swap"},
		"/etc/udev/rules.d/70-persistent-net.rules": {`DRIVERS=="vmxnet3"`, web01.NICs[0].MAC, `NAME="ens192"`},
		"/etc/network/interfaces":                   {"iface ens192 inet static", "192.0.2.10/24"},
		"/etc/initramfs-tools/conf.d/resume":        {"RESUME=/dev/sda2"},
		"/var/cache/debconf/config.dat":             {"Value: /dev/disk/by-id/scsi-3" + web01.Disks[0].WWN},
		"/var/lib/dpkg/status":                      {"Package: open-vm-tools\nStatus: install ok installed"},
	},
	"web02": {
		"/etc/fstab":                         {"UUID=c81f5d07-2b94-4e36-9fa8-60e3d17c4b92 / ext4"},
		"/etc/initramfs-tools/conf.d/resume": {"RESUME=UUID=0d9a73e6-f415-48cb-b2d0-5a7e86c1932f"},
	},
	"db01": {
		"/etc/fstab":                             {"/dev/mapper/db01--vg-root / ext4"},
		"/etc/systemd/network/10-ens192.network": {"Name=ens192", "DHCP=yes"},
		"/usr/lib/os-release":                    {"VERSION_CODENAME=trixie"},
		"/srv/ledger":                            {"/srv of db01"},
	},
	"app01": {
		"/etc/fstab": {"UUID=19c4e0f7-3b8d-4625-a16e-d70b92f5c83a / xfs"},
		"/etc/NetworkManager/system-connections/ens192.nmconnection": {"interface-name=ens192", "198.51.100.30/24,198.51.100.1"},
		"/var/lib/dpkg/status": {"Package: dracut\nStatus: install ok installed"},
	},
	"edge01": {
		"/etc/fstab":                  {"/dev/sdb1 /srv xfs"},
		"/etc/netplan/01-netcfg.yaml": {"ens192:", "203.0.113.20/24", "via: 203.0.113.1", "ens224:", "198.51.100.20/24"},
		"/srv/ledger":                 {"/srv of edge01"},
	},
	"lost01": {
		"/etc/network/interfaces": {"iface ens224 inet static"},
		"/etc/default/grub":       {"console=ttyS0"},
	},
	"file01": {
		"/etc/fstab":                                {file01.byPath(0) + "-part1 / btrfs defaults,subvol=@rootfs", "-part1 /home btrfs defaults,subvol=@home"},
		"/boot/grub/grub.cfg":                       {"/@rootfs/boot/vmlinuz-", "rootflags=subvol=@rootfs"},
		"/home/ledger":                              {"/home of file01"},
		"/.snapshots/1/snapshot/etc/fstab":          {"subvol=@rootfs"},
		"/.snapshots/1/snapshot/usr/lib/os-release": {"VERSION_CODENAME=bookworm"},
	},
}

// TestGuestsHoldWhatMakesThemHardToMove takes guests from the cache or builds
// them, which boots each twice on VMware's devices, and reads the disks that came
// out. The first guest stands for all of them unless the matrix is asked for.
func TestGuestsHoldWhatMakesThemHardToMove(t *testing.T) {
	for _, r := range All {
		t.Run(r.Name, func(t *testing.T) {
			needVMs(t)
			if r.Name != All[0].Name && os.Getenv("NEED_VMS") != "matrix" {
				t.Skip("one of many machines: set NEED_VMS=matrix")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
			defer cancel()
			guest, err := Build(ctx, r, slog.New(slog.NewTextHandler(t.Output(), nil)))
			if err != nil {
				t.Fatal(err)
			}
			if guest.Bytes > 350<<20 {
				t.Errorf("the VMDKs have %d bytes", guest.Bytes)
			}
			read := rawDisks(t, guest)
			for name, want := range holds[r.Name] {
				text := read(name)
				for _, part := range want {
					if !strings.Contains(text, part) {
						t.Errorf("%s lacks %q:\n%.1000s", name, part, text)
					}
				}
			}
			if gone := read("/usr/local/sbin/finish"); gone != "" {
				t.Error("the finish boot left itself behind")
			}
			checkBoot(t, guest, read)
		})
	}
}

// checkBoot looks at what the boot loader offers: each kernel, its root named as
// the recipe says, with an initrd that knows VMware only.
func checkBoot(t *testing.T, guest Guest, read func(string) string) {
	t.Helper()
	menu := read("/boot/grub/grub.cfg")
	if want := 1 + strings.Count(strings.Join(guest.Packages, " "), "linux-image"); len(guest.Initrds) != want {
		t.Errorf("%d kernels, want %d", len(guest.Initrds), want)
	}
	for version := range guest.Initrds {
		line := fmt.Sprintf("/vmlinuz-%s root=%s ro", version, guest.at("/").name(guest.BootNames))
		if !strings.Contains(menu, line) {
			t.Errorf("the boot loader does not offer %s", line)
		}
		checkInitrdOnDisk(t, read("/boot/initrd.img-"+version))
	}
}

// checkInitrdOnDisk looks for names in the archive itself: cpio keeps them plain.
func checkInitrdOnDisk(t *testing.T, packed string) {
	t.Helper()
	reader, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	archive, err := reader.DecodeAll([]byte(packed), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`/vmw_pvscsi\.ko(\.xz)?\x00`).Match(archive) {
		t.Error("an initrd lacks vmw_pvscsi")
	}
	if found := regexp.MustCompile(`/virtio_(blk|scsi)\.ko(\.xz)?\x00`).Find(archive); found != nil {
		t.Errorf("an initrd holds %s", found)
	}
}

// rawDisks makes the disks readable and returns what reads a guest's file, or
// nothing if there is none.
func rawDisks(t *testing.T, g Guest) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	for i, vmdk := range g.VMDKs {
		if got := subformat(t, vmdk); got != "streamOptimized" {
			t.Errorf("%s is %q", vmdk, got)
		}
		if _, err := proc.Run(t.Context(), "qemu-img", "convert", "-f", "vmdk", "-O", "raw", vmdk, rawDisk(dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) string {
		v := holder(g.volumes(), name)
		raw := rawDisk(dir, v.disk)
		if v.Type == "btrfs" {
			return mountedFile(t, v, raw, inSubvolume(v, name))
		}
		name = "/" + strings.TrimPrefix(name, v.Mount)
		if v.Type == "xfs" {
			return mountedFile(t, v, raw, name)
		}
		at := fmt.Sprintf("%s?offset=%d", raw, v.start) // debugfs(8) opens what libext2fs's unix I/O does
		text, err := proc.Run(t.Context(), "debugfs", "-R", "cat "+name, at)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// holder is the volume that a file is on.
func holder(all []volume, name string) volume {
	for _, v := range deepestFirst(all) {
		if v.Mount == "/" || strings.HasPrefix(name, v.Mount+"/") {
			return v
		}
	}
	return volume{}
}

// inSubvolume is a file's name from the top level of a btrfs.
func inSubvolume(v volume, name string) string {
	for _, s := range v.Beside {
		if rest, ok := strings.CutPrefix(name, s.Mount+"/"); ok {
			return "/" + s.Name + "/" + rest
		}
	}
	return "/" + v.Subvolume + name
}

// mountedFile reads a file of a volume that only the kernel can read.
func mountedFile(t *testing.T, v volume, raw, name string) string {
	t.Helper()
	const script = `mount -o "ro,loop,offset=$1,sizelimit=$2" "$3" "$4"; if [ -e "$4/$5" ]; then cat "$4/$5"; fi`
	text, err := proc.Run(t.Context(), "unshare", "--mount", "sh", "-euc", script, "read",
		fmt.Sprint(v.start), fmt.Sprint(v.Size), raw, t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func subformat(t *testing.T, vmdk string) string {
	t.Helper()
	text, err := proc.Run(t.Context(), "qemu-img", "info", "--output=json", "-f", "vmdk", vmdk)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Specific struct {
			Data struct {
				Type string `json:"create-type"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(text, &info); err != nil {
		t.Fatal(err)
	}
	return info.Specific.Data.Type
}

// needVMs skips a test that starts machines unless NEED_VMS asks for it, and
// then lets nothing that it needs be missing when NEED_TOOLS is set too.
func needVMs(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts machines: set NEED_VMS=1")
	}
	needTools(t, "apt-config", "apt-get", "debugfs", "mke2fs", "mkswap", "mmdebstrap", "mkfs.vfat", "mkfs.xfs", "mkfs.btrfs", "btrfs", "lvm", "unshare", "qemu-img", "qemu-system-x86_64", "sfdisk")
}

// needTools skips a test unless root runs it where the programs are; with
// NEED_TOOLS it fails instead.
func needTools(t *testing.T, programs ...string) {
	t.Helper()
	lack := t.Skipf
	if os.Getenv("NEED_TOOLS") != "" {
		lack = t.Fatalf
	}
	if os.Geteuid() != 0 {
		lack("%v", ErrNotRoot)
	}
	for _, program := range programs {
		if _, err := proc.Look(program); err != nil {
			lack("%v", err)
		}
	}
}
