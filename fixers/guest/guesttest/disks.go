package guesttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hyper2kvm/pipeline/proc"
)

// Need skips a test when one of its preconditions is missing; with NEED_TOOLS=1
// it fails instead. The engines' tests need root and these programs.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, "needs root")
	}
	for _, name := range programs {
		if _, err := proc.Look(name); err != nil {
			Missing(t, err.Error())
		}
	}
}

// Slow is Need for tests that take long: they run once, where NEED_TOOLS=1 asks for all.
func Slow(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getenv("NEED_TOOLS") != "1" {
		t.Skip("takes long: set NEED_TOOLS=1")
	}
	Need(t, programs...)
}

// Missing skips a test for what this machine lacks, where that is allowed.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Programs are those that Disks runs.
var Programs = []string{"mke2fs", "mkfs.xfs", "mkswap", "sfdisk", "blkid"}

func run(t testing.TB, stdin, name string, args ...string) {
	t.Helper()
	if _, err := (proc.Command{Name: name, Args: args, Stdin: strings.NewReader(stdin)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// XFSDevice is the partition of Disks whose file system is XFS, and empty.
const XFSDevice = "disk0p2"

// Disks makes the disks of a guest in a folder of the test: an MBR disk with
// logical partitions, ext4 with files of all kinds, an empty XFS, ext3 and
// swap; a disk with a GPT; and a disk that is one file system.
func Disks(t testing.TB) []string {
	t.Helper()
	return keptDisks.files(t)
}

var keptDisks = kept{name: "disks", make: makeDisks}

func makeDisks(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	mbr, gpt, whole := filepath.Join(dir, "mbr.raw"), filepath.Join(dir, "gpt.raw"), filepath.Join(dir, "whole.raw")
	const mib = 1 << 20
	sparse(t, mbr, 448*mib)
	run(t, `label: dos
label-id: 0xdeadbe01
unit: sectors
1: start=2048, size=65536, type=83, bootable
2: start=67584, size=655360, type=83
3: start=722944, size=194560, type=f
5: start=724992, size=32768, type=82
6: start=759808, size=32768, type=83
7: start=794624, size=16384, type=8e
`, "sfdisk", "--quiet", mbr)
	bootCode(t, mbr)
	ext(t, mbr, "ext4", 1*mib, 32*mib, "root fs", "11111111-2222-4333-8444-555555555501", "-d", files(t))
	run(t, "", "mkfs.xfs", "-q", "-L", "data", "-m", "uuid=11111111-2222-4333-8444-555555555502", part(t, dir, "xfs", 320*mib))
	splice(t, filepath.Join(dir, "xfs"), mbr, 33*mib)
	run(t, "", "mkswap", "-L", "swap", "-U", "11111111-2222-4333-8444-555555555503", part(t, dir, "swap", 16*mib))
	splice(t, filepath.Join(dir, "swap"), mbr, 724992*512)
	ext(t, mbr, "ext3", 759808*512, 16*mib, "ü \\x \"q", "11111111-2222-4333-8444-555555555504")

	sparse(t, gpt, 64*mib)
	run(t, `label: gpt
label-id: 0C7D5E1A-0000-4000-8000-0000000000AA
unit: sectors
1: start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=0C7D5E1A-0000-4000-8000-000000000001, name="BIOS boot"
4: start=4096, size=32768, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=0C7D5E1A-0000-4000-8000-000000000004, name="Daten ä"
`, "sfdisk", "--quiet", gpt)
	ext(t, gpt, "ext2", 4096*512, 16*mib, "old", "11111111-2222-4333-8444-555555555505")

	sparse(t, whole, 16*mib)
	ext(t, whole, "ext4", 0, 16*mib, "whole", "11111111-2222-4333-8444-555555555506")
	return []string{mbr, gpt, whole}
}

// BlankSize is that of a partition of Blank, bytes: the smallest btrfs fits.
const BlankSize = 128 << 20

// Blank makes a disk of n partitions with nothing on them.
func Blank(t testing.TB, n int) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "blank.raw")
	sparse(t, disk, int64(n)*BlankSize+2<<20)
	run(t, "label: gpt\n"+strings.Repeat(fmt.Sprintf("size=%d\n", BlankSize/512), n), "sfdisk", "--quiet", disk)
	return disk
}

func sparse(t testing.TB, name string, size int64) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

// Make makes a file system alone on a disk. For btrfs, vfat and ntfs it takes the
// program mkfs.btrfs, mkfs.vfat or mkfs.ntfs.
func Make(t testing.TB, name, fstype string, size int64) {
	t.Helper()
	sparse(t, name, size)
	switch fstype {
	case "xfs", "btrfs":
		run(t, "", "mkfs."+fstype, "-q", name)
	case "vfat":
		run(t, "", "mkfs.vfat", "-F", "32", name)
	case "ntfs":
		run(t, "", "mkfs.ntfs", "-q", "-F", "-f", name)
	default:
		run(t, "", "mke2fs", "-q", "-F", "-t", fstype, "-I", "256", name)
	}
}

func ext(t testing.TB, disk, fstype string, offset, size int64, label, uuid string, more ...string) {
	t.Helper()
	args := append([]string{"-q", "-F", "-t", fstype, "-I", "256", "-L", label, "-U", uuid, "-E", fmt.Sprintf("offset=%d", offset)}, more...)
	run(t, "", "mke2fs", append(args, disk, fmt.Sprintf("%dk", size/1024))...)
}

func part(t testing.TB, dir, name string, size int64) string {
	t.Helper()
	name = filepath.Join(dir, name)
	sparse(t, name, size)
	return name
}

func bootCode(t testing.TB, disk string) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("GRUB \x00Geom\x00Hard Disk\x00Read\x00 Error\r\n"), 384); err != nil {
		t.Fatal(err)
	}
}

// spliced is how many bytes are copied, or left out as a hole, at a time.
const spliced = 64 << 10

// splice copies a file into a disk, holes left out.
func splice(t testing.TB, from, disk string, offset int64) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	info, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	block, zero := make([]byte, spliced), string(make([]byte, spliced))
	for at := int64(0); at < info.Size(); at += int64(len(block)) {
		if _, err := in.ReadAt(block, at); err != nil {
			t.Fatal(err)
		}
		if string(block) == zero {
			continue
		}
		if _, err := out.WriteAt(block, offset+at); err != nil {
			t.Fatal(err)
		}
	}
}

// files makes a folder with files of all kinds.
func files(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	steps := []error{
		os.MkdirAll(at("etc/default"), 0o755),
		os.Mkdir(at("srv"), 0o711|os.ModeSetgid),
		os.WriteFile(at("etc/fstab"), []byte("/dev/sda1 / ext4\n"), 0o644),
		os.WriteFile(at("etc/shadow"), []byte("root:*\n"), 0o640),
		os.Chown(at("etc/shadow"), 0, 42),
		os.WriteFile(at("binary"), []byte(strings.Repeat("\x00\xff\n", 100_000)), 0o755),
		os.Link(at("etc/fstab"), at("etc/hard")),
		os.Symlink("/etc/fstab", at("absolute")),
		os.Symlink("../../../../etc/shadow", at("etc/default/up")),
		os.Symlink("/proc/self/root", at("magic")),
		os.Lchown(at("magic"), 5, 6),
		syscall.Mkfifo(at("pipe"), 0o622),
		syscall.Mknod(at("device"), syscall.S_IFCHR|0o666, 1<<8|3),
		syscall.Setxattr(at("etc/shadow"), "security.selinux", []byte("shadow_t\x00"), 0),
	}
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}
