package guesttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/disk/loop/looptest"
)

// VolumePrograms are those that Volumes runs beyond Programs.
var VolumePrograms = []string{"lvm"}

// Volumes makes the disks of a guest with logical volumes in a folder of the
// test. LVM's own program makes them, without device-mapper:
//
//	web-vg/root    ext4, linear on disk0p1
//	web-vg/swap-1  swap, linear on disk1, a whole disk
//	web-vg/both    ext2, striped over both
//	web-vg/grown   ext4, on disk1 and then on disk0p1
//	half/kept      ext2, on disk2p1
//	half/lost      on disk2p1 and disk2p2, which is no physical volume any more
//	twin/one       in two groups of one name, on disk2p3 and disk2p4
func Volumes(t testing.TB) []string {
	t.Helper()
	return keptVolumes.files(t)
}

var keptVolumes = kept{name: "volumes", make: makeVolumes}

func makeVolumes(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	first, whole, third := filepath.Join(dir, "first.raw"), filepath.Join(dir, "whole.raw"), filepath.Join(dir, "third.raw")
	const mib = 1 << 20
	sparse(t, first, 128*mib)
	run(t, "label: gpt\nstart=2048, size=245760, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n", "sfdisk", "--quiet", first)
	sparse(t, whole, 64*mib)
	sparse(t, third, 160*mib)
	run(t, "label: dos\n,32M,8e\n,32M,8e\n,32M,8e\n,32M,8e\n", "sfdisk", "--quiet", third)

	onLoops(t, []extent{{first, 1 * mib, 120 * mib}, {whole, 0, 64 * mib}}, func(l lvm) {
		l.run("vgcreate", "web-vg", l.devices[0], l.devices[1])
		l.volume("web-vg", "root", "-L64M", l.devices[0])
		l.volume("web-vg", "swap-1", "-L16M", l.devices[1])
		l.volume("web-vg", "both", "-L16M", "-i2", "-I64k")
		l.volume("web-vg", "grown", "-L8M", l.devices[1])
		l.run("lvextend", "-L16M", "web-vg/grown", l.devices[0])
	})
	onLoops(t, []extent{{third, 1 * mib, 32 * mib}, {third, 33 * mib, 32 * mib}}, func(l lvm) {
		l.run("vgcreate", "half", l.devices[0], l.devices[1])
		l.volume("half", "kept", "-L8M", l.devices[0])
		l.volume("half", "lost", "-L40M")
	})
	for _, start := range []int64{65 * mib, 97 * mib} {
		onLoops(t, []extent{{third, start, 32 * mib}}, func(l lvm) {
			l.run("vgcreate", "twin", l.devices[0])
			l.volume("twin", "one", "-L8M")
		})
	}
	zero(t, third, 33*mib, 1*mib)

	// Extents of 4 MiB begin at 1 MiB of a physical volume.
	ext(t, first, "ext4", 2*mib, 64*mib, "root fs", "11111111-2222-4333-8444-555555555511", "-d", files(t))
	run(t, "", "mkswap", "-U", "11111111-2222-4333-8444-555555555512", part(t, dir, "swap", 16*mib))
	splice(t, filepath.Join(dir, "swap"), whole, 1*mib)
	sparse(t, filepath.Join(dir, "both"), 16*mib)
	ext(t, filepath.Join(dir, "both"), "ext2", 0, 16*mib, "striped", "11111111-2222-4333-8444-555555555513")
	stripe(t, filepath.Join(dir, "both"), 64<<10, extent{first, 66 * mib, 8 * mib}, extent{whole, 17 * mib, 8 * mib})
	sparse(t, filepath.Join(dir, "grown"), 16*mib)
	ext(t, filepath.Join(dir, "grown"), "ext4", 0, 16*mib, "grown", "11111111-2222-4333-8444-555555555515")
	stripe(t, filepath.Join(dir, "grown"), 8*mib, extent{whole, 25 * mib, 8 * mib}, extent{first, 74 * mib, 8 * mib})
	ext(t, third, "ext2", 2*mib, 8*mib, "kept", "11111111-2222-4333-8444-555555555514")
	return []string{first, whole, third}
}

// OnVolumes are the file systems on the logical volumes of Volumes.
var OnVolumes = []guest.Filesystem{
	{Device: "half/kept", Type: "ext2", UUID: "11111111-2222-4333-8444-555555555514", Label: "kept", Size: 8 << 20, Span: 8 << 20},
	{Device: "web-vg/both", Type: "ext2", UUID: "11111111-2222-4333-8444-555555555513", Label: "striped", Size: 16 << 20, Span: 16 << 20},
	{Device: "web-vg/grown", Type: "ext4", UUID: "11111111-2222-4333-8444-555555555515", Label: "grown", Size: 16 << 20, Span: 16 << 20},
	{Device: "web-vg/root", Type: "ext4", UUID: "11111111-2222-4333-8444-555555555511", Label: "root fs", Size: 64 << 20, Span: 64 << 20},
	{Device: "web-vg/swap-1", Type: "swap", UUID: "11111111-2222-4333-8444-555555555512", Size: 16 << 20},
}

// Server makes the disk of a server that starts by UEFI, as Debian's installer
// lays it out: the EFI system partition (FAT, of mkfs.vfat), /boot (ext4), and the
// group db-vg of root (ext4), swap_1 and srv (an empty XFS).
func Server(t testing.TB) string {
	t.Helper()
	return keptServer.files(t)[0]
}

var keptServer = kept{name: "server", make: makeServer}

func makeServer(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "server.raw")
	const mib = 1 << 20
	sparse(t, disk, 580*mib)
	run(t, "label: gpt\nsize=64MiB, type=uefi\nsize=32MiB, type=linux\nsize=480MiB, type=lvm\n", "sfdisk", "--quiet", disk)
	run(t, "", "mkfs.vfat", "-F", "32", "-n", "EFI", part(t, dir, "esp", 64*mib))
	splice(t, filepath.Join(dir, "esp"), disk, 1*mib)
	ext(t, disk, "ext4", 65*mib, 32*mib, "boot", "11111111-2222-4333-8444-555555555521")
	onLoops(t, []extent{{disk, 97 * mib, 480 * mib}}, func(l lvm) {
		l.run("vgcreate", "db-vg", l.devices[0])
		l.volume("db-vg", "root", "-L64M")
		l.volume("db-vg", "swap_1", "-L16M")
		l.volume("db-vg", "srv", "-L320M")
	})
	ext(t, disk, "ext4", 98*mib, 64*mib, "root", "11111111-2222-4333-8444-555555555522")
	run(t, "", "mkswap", part(t, dir, "swap", 16*mib))
	splice(t, filepath.Join(dir, "swap"), disk, 162*mib)
	run(t, "", "mkfs.xfs", "-q", "-L", "srv", part(t, dir, "srv", 320*mib))
	splice(t, filepath.Join(dir, "srv"), disk, 178*mib)
	return []string{disk}
}

// extent is a part of a disk, in bytes.
type extent struct {
	disk        string
	start, size int64
}

// lvm runs LVM's program on some devices, without device-mapper, udev or files
// of the host.
type lvm struct {
	t       testing.TB
	devices []string
}

func (l lvm) run(args ...string) {
	l.t.Helper()
	run(l.t, "", "lvm", l.with(args...)...)
}

// with are arguments with those that keep LVM to the devices.
func (l lvm) with(args ...string) []string {
	const config = "devices { use_devicesfile=0 } backup { backup=0 archive=0 } activation { udev_sync=0 udev_rules=0 }"
	return append(args, "--config", config, "--driverloaded", "n", "--devices", strings.Join(l.devices, ","))
}

func (l lvm) volume(group, name string, more ...string) {
	l.t.Helper()
	size, more := more[0], more[1:]
	l.run(append([]string{"lvcreate", "-an", "-Zn", "-Wn", "--yes", "--name", name, size, group}, more...)...)
}

// onLoops makes physical volumes of parts of disks and lets do work on them.
func onLoops(t testing.TB, parts []extent, do func(lvm)) {
	t.Helper()
	withLoops(t, parts, func(l lvm) {
		l.run(append([]string{"pvcreate", "--yes"}, l.devices...)...)
		do(l)
	})
}

// withLoops makes devices of parts of disks and lets do work on them.
func withLoops(t testing.TB, parts []extent, do func(lvm)) {
	t.Helper()
	l := lvm{t: t}
	for _, p := range parts {
		d := looptest.Attach(t, p.disk, p.start, p.size)
		defer looptest.Detach(t, d)
		l.devices = append(l.devices, d.Node())
	}
	do(l)
}

// stripe copies a file into parts of disks, a chunk to each in turn.
func stripe(t testing.TB, from string, chunk int, on ...extent) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; len(data) > 0; i, data = i+1, data[chunk:] {
		to := on[i%len(on)]
		writeAt(t, to.disk, to.start+int64(i/len(on)*chunk), data[:chunk])
	}
}

func zero(t testing.TB, disk string, offset int64, size int) {
	t.Helper()
	writeAt(t, disk, offset, make([]byte, size))
}

func writeAt(t testing.TB, disk string, offset int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, offset); err != nil {
		t.Fatal(err)
	}
}
