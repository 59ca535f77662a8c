package guests

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	if got.NIC != web01.NIC || got.VMDK != b.VMDK || got.Bytes != 4 || got.Initrds["6.1"][0] != "ext4" {
		t.Errorf("Open = %+v", got)
	}
	// echo -n disk | sha256sum
	if want := "1044dec7206e8d7c9fbb4ae8f766668406d2567fc7fc1a160a9d4700fcf8f8e9"; got.SHA256 != want {
		t.Errorf("SHA256 = %s, want %s", got.SHA256, want)
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

// TestWeb01HoldsWhatMakesItHardToMove takes the guest from the cache or builds
// it, which boots it twice on VMware's devices, and reads the disk that came out.
func TestWeb01HoldsWhatMakesItHardToMove(t *testing.T) {
	needVMs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	guest, err := Build(ctx, web01, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got := subformat(t, guest.VMDK); got != "streamOptimized" {
		t.Errorf("the VMDK is %q", got)
	}
	if guest.Bytes > 260<<20 {
		t.Errorf("the VMDK has %d bytes", guest.Bytes)
	}
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if _, err := proc.Run(ctx, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", guest.VMDK, raw); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"/etc/fstab": {byPath + "-part1 / ext4", byPath + "-part2 none swap"},
		"/etc/udev/rules.d/70-persistent-net.rules": {`DRIVERS=="vmxnet3"`, guest.NIC.MAC, `NAME="ens192"`},
		"/etc/network/interfaces":                   {"iface ens192 inet static", "192.0.2.10/24"},
		"/etc/initramfs-tools/conf.d/resume":        {"RESUME=/dev/sda2"},
		"/var/cache/debconf/config.dat":             {"Value: /dev/disk/by-id/scsi-3" + guest.Disk.WWN},
		"/var/lib/dpkg/status":                      {"Package: open-vm-tools\nStatus: install ok installed"},
	} {
		text := guestFile(t, raw, name)
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q:\n%.1000s", name, part, text)
			}
		}
	}
	if gone := guestFile(t, raw, "/usr/local/sbin/finish"); gone != "" {
		t.Error("the finish boot left itself behind")
	}
	menu := guestFile(t, raw, "/boot/grub/grub.cfg")
	if len(guest.Initrds) != 2 {
		t.Errorf("%d kernels, want 2", len(guest.Initrds))
	}
	for version := range guest.Initrds {
		if !strings.Contains(menu, "/boot/vmlinuz-"+version+" root=/dev/sda1 ro") {
			t.Errorf("the boot loader does not offer %s with an unstable root", version)
		}
		checkInitrdOnDisk(t, guestFile(t, raw, "/boot/initrd.img-"+version))
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
	if !strings.Contains(string(archive), "/vmw_pvscsi.ko\x00") {
		t.Error("an initrd lacks vmw_pvscsi")
	}
	for _, module := range []string{"virtio_blk.ko", "virtio_scsi.ko", "virtio_pci.ko"} {
		if strings.Contains(string(archive), "/"+module+"\x00") {
			t.Errorf("an initrd holds %s", module)
		}
	}
}

// guestFile is a file of the guest's root, or nothing if there is none.
func guestFile(t *testing.T, raw, name string) string {
	t.Helper()
	at := raw + "?offset=1048576" // debugfs(8) opens what libext2fs's unix I/O does
	text, err := proc.Run(t.Context(), "debugfs", "-R", "cat "+name, at)
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
	lack := t.Skipf
	if os.Getenv("NEED_TOOLS") != "" {
		lack = t.Fatalf
	}
	if os.Geteuid() != 0 {
		lack("%v", ErrNotRoot)
	}
	for _, program := range []string{"apt-config", "apt-get", "debugfs", "mke2fs", "mkswap", "mmdebstrap", "qemu-img", "qemu-system-x86_64", "sfdisk"} {
		if _, err := proc.Look(program); err != nil {
			lack("%v", err)
		}
	}
}
