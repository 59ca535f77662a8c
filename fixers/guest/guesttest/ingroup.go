package guesttest

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// InGroup makes a disk of a guest whose root is a logical volume: vg/root, of 32 MiB,
// gets the file system of at most that which begins at 1 MiB of another disk, with an
// fstab that says so. Behind it are volumes of 16 MiB with an ext4 each; swap is swap
// space. It takes VolumePrograms and debugfs.
func InGroup(t testing.TB, from string, behind ...string) string {
	t.Helper()
	const mib, root, each = 1 << 20, 32, 16
	dir := t.TempDir()
	disk, fstab := filepath.Join(dir, "group.raw"), filepath.Join(dir, "fstab")
	size := int64(root + each*len(behind) + 4) // MiB, of the physical volume
	sparse(t, disk, (size+1)*mib)
	run(t, "label: dos\n2048,,8e\n", "sfdisk", "--quiet", disk)
	onLoops(t, []extent{{disk, mib, size * mib}}, func(on lvm) {
		on.run("vgcreate", "vg", on.devices[0])
		on.volume("vg", "root", "-L32M")
		for _, name := range behind {
			on.volume("vg", name, "-L16M")
		}
	})
	file := filepath.Join(dir, "root")
	copyFrom(t, from, mib, file)
	if err := os.WriteFile(fstab, []byte("/dev/vg/root / ext4 defaults 0 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "rm /etc/fstab\nwrite "+fstab+" /etc/fstab\n", "debugfs", "-w", "-f", "-", file)
	splice(t, file, disk, 2*mib)
	for i, name := range behind {
		fs := filepath.Join(dir, name)
		if name == "swap" {
			run(t, "", "mkswap", part(t, dir, name, each*mib))
		} else {
			Make(t, fs, "ext4", each*mib)
		}
		splice(t, fs, disk, int64(2+root+each*i)*mib)
	}
	return disk
}

// copyFrom copies what a disk has from an offset on.
func copyFrom(t testing.TB, disk string, offset int64, to string) {
	t.Helper()
	in, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	data, err := io.ReadAll(io.NewSectionReader(in, offset, 1<<62))
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
