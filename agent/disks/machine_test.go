package disks

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// played is a machine of testdata, with what it has mounted.
func played(t *testing.T, mountinfo string) Machine {
	t.Helper()
	root := t.TempDir()
	m := Machine{Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev"), Proc: filepath.Join(root, "proc"), Run: "/run/hyper2kvm/storages"}
	a, err := txtar.ParseFile("testdata/machine.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		name, data := f.Name, f.Data
		if plain, ok := strings.CutSuffix(name, ".hex"); ok {
			if data, err = hex.DecodeString(strings.Join(strings.Fields(string(data)), "")); err != nil {
				t.Fatal(err)
			}
			name = plain
		}
		if link, ok := strings.CutPrefix(name, "link:"); ok {
			put(t, filepath.Join(m.Sys, link), "", strings.TrimSpace(string(data)))
			continue
		}
		put(t, filepath.Join(m.Sys, name), string(data), "")
	}
	put(t, filepath.Join(m.Proc, "self", "mountinfo"), mountinfo, "")
	put(t, filepath.Join(m.Proc, "sys/kernel/random/boot_id"), "86eca48a-0b2c-44c0-af4f-abdf638c984e\n", "")
	return m
}

func put(t *testing.T, path, text, link string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	switch {
	case err != nil:
	case link != "":
		err = os.Symlink(link, path)
	default:
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDisksSayWhoTheyAre: by names that udev gives them too, and nothing that tells the
// slot or the emulator counts.
func TestDisksSayWhoTheyAre(t *testing.T) {
	list, err := played(t, "").blocks()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range list {
		got = append(got, fmt.Sprintf("%s %s %d %q %q %v %v", b.name, b.bus, b.size, b.model, b.serial, b.removable, b.ids))
	}
	want := []string{
		`nvme0n1 nvme 1000204886016 "Samsung SSD 970 EVO Plus 1TB" "S4EWNX0R123456" false [nvme-eui.0025385b71b0f5d1]`,
		`sda usb 30752000000 "Ultra" "4C530001230115117282" true [usb-SanDisk_Ultra_4C530001230115117282-0:0]`,
		`sdb scsi 42949672960 "Virtual disk" "" false [wwn-0x6000c29d3f2a7d1e5b8c4f6a7e9d0b12]`,
		`sdc sata 1000204886016 "ST1000LM035-1RK1" "ZDE1ABCD" false [serial-ATA_ST1000LM035-1RK1_ZDE1ABCD]`,
		`sdd sata 1073741824 "QEMU HARDDISK" "QM00003" false []`,
		`vda virtio 4294967296 "" "web01 src" false [virtio-web01_src]`,
		`vdb virtio 4294967296 "" "" false []`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsUsedIsFoundThroughAllThatLiesOnADisk(t *testing.T) {
	m := played(t, strings.Join([]string{
		"30 1 8:1 / /boot\\040of\\040it rw - vfat /dev/sda1 rw",
		"31 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw",
		"32 1 0:40 / /data rw - btrfs DEV/nvme0n1 rw", // which has no number of a device
		"33 1 0:41 / /tmp rw - tmpfs tmpfs rw",
		"34 1 259:9 / /run/hyper2kvm/storages/stick rw - ext4 DEV/vda rw", // one of ours
	}, "\n"))
	path := filepath.Join(m.Proc, "self", "mountinfo")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "DEV", m.Dev)), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := m.users()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"sda": "is mounted at /boot of it", "vdb": "is mounted at /", "dm-0": "is mounted at /", "nvme0n1": "is mounted at /data"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := m.holders("sdc"); !slices.Equal(got, []string{"md0"}) {
		t.Errorf("a member of an array is held by %q", got)
	}
	if got := m.holders("vdb"); !slices.Equal(got, []string{"dm-0"}) {
		t.Errorf("a disk with a volume is held by %q", got)
	}
}

func TestSerialNumbersThatManyHaveAreNone(t *testing.T) {
	for _, c := range []struct {
		said, serial string
		want         bool
	}{
		{"ZDE1ABCD", "", false}, {"", "", true}, {"0000000000000000", "", true}, {"0123456789ABCDEF", "", true}, {"FFFFFFFFFFFFFFFF", "", true},
		{"QM00001", "", true}, {"1-0000:00:04.0-1", "", true}, {"QEMU_QEMU_HARDDISK_1-0000:00:04.0-1", "1-0000:00:04.0-1", true}, {"QM0001", "", false},
	} {
		if got := nobodys(c.said, c.serial); got != c.want {
			t.Errorf("nobodys(%q, %q) = %t, want %t", c.said, c.serial, got, c.want)
		}
	}
}

func TestAnIDIsPlainAndBounded(t *testing.T) {
	b := block{}
	b.add("usb-", "  Evil\x1b[31m /../../etc\n Stick ")
	b.add("nvme-", "nvme.1b36-"+strings.Repeat("5a", 100))
	if b.ids[0] != "usb-Evil__31m__.._.._etc_Stick" || strings.Contains(b.ids[0], "/") {
		t.Errorf("an ID is %q", b.ids[0])
	}
	if len(b.ids[1]) != longestID {
		t.Errorf("an ID of %d characters: %s", len(b.ids[1]), b.ids[1])
	}
}
