package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// ErrMissing is a program that this machine does not have.
var ErrMissing = errors.New("program is not installed")

// Program names an executable: what ships it and who needs it.
type Program struct {
	Name    string // as looked up in PATH
	Package string // Debian package that ships it; empty: make build makes it
	Usage   string // who runs it, for what
	Least   string // oldest version that will do; empty: any
	Build   bool   // only needed to build test guests, not to migrate
	Bench   bool   // only needed to measure, and installed for that alone
	Image   bool   // only needed in the appliance's image, which has it
	Hook    bool   // no package ships it, and nothing needs it: an operator may have it
}

// oldestQEMU is the oldest that is tested, and the first with the stream network
// device that a proof watches its guest through (QEMU 7.2, change log).
const oldestQEMU = "7.2"

// Programs is every program that hyper2kvm runs. The appliance's package list,
// the set-up script and the start-up check are tested against it.
var Programs = []Program{
	{Name: "qemu-img", Package: "qemu-utils", Usage: "disk: create overlays, convert, check", Least: oldestQEMU},
	{Name: "qemu-storage-daemon", Package: "qemu-system-common", Usage: "disk: serve sources, overlays and targets", Least: oldestQEMU},
	{Name: "qemu-system-x86_64", Package: "qemu-system-x86", Usage: "accel, testers: start machines", Least: oldestQEMU},
	{Name: "nbdkit", Package: "nbdkit", Usage: "vmware/transport: read disks through VMware's library; disk/nbd: tests read and write through it; build: virt-v2v serves disks with it", Least: "1.32"},
	{Name: "qemu-nbd", Package: "qemu-utils", Usage: "disk, transfer: tests serve disks with it", Build: true},
	{Name: "qemu-io", Package: "qemu-utils", Usage: "disk: tests write to snapshots", Build: true},
	{Name: "setpriv", Package: "util-linux", Usage: "target: tests run libvirt as an ordinary user", Build: true},
	{Name: "libvirtd", Package: "libvirt-daemon", Usage: "target, testers/libvirt: tests define and run the domain in a real libvirt", Build: true},
	{Name: "mount", Package: "mount", Usage: "agent/update: mount what the appliance starts from; testers/libvirt: tests give a libvirt folders of its own"},
	{Name: "virsh", Package: "libvirt-clients", Usage: "target, testers/libvirt: tests define the domain in a real libvirt", Build: true},
	{Name: "blkid", Package: "util-linux", Usage: "fixers/guest, agent/disks: name file systems"},
	{Name: "e2fsck", Package: "e2fsprogs", Usage: "fixers/guest: check ext2, ext3 and ext4"},
	{Name: "resize2fs", Package: "e2fsprogs", Usage: "fixers/guest: grow ext2, ext3 and ext4"},
	{Name: "xfs_repair", Package: "xfsprogs", Usage: "fixers/guest: check XFS"},
	{Name: "btrfs", Package: "btrfs-progs", Usage: "fixers/guest: check btrfs"},
	{Name: "fsck.fat", Package: "dosfstools", Usage: "fixers/guest: check FAT"},
	{Name: "ntfs-3g", Package: "ntfs-3g", Usage: "fixers/guest: show NTFS"},
	{Name: "vmtoolsd", Package: "open-vm-tools", Usage: "agent/firstboot: ask VMware for the appliance's settings", Image: true},
	{Name: "loadkeys", Package: "kbd", Usage: "agent/firstboot: give the appliance's console its keyboard layout", Image: true},
	{Name: "journalctl", Package: "systemd", Usage: "agent/bundle: the agent's part of the journal", Build: true},
	{Name: "systemd-analyze", Package: "systemd", Usage: "agent/serve: tests have systemd read the unit", Build: true},
	{Name: "bash", Package: "bash", Usage: "agent/dashboard: the shell of the appliance's screen; build: ask the set-up script for its packages", Build: true},
	{Name: "git", Package: "git", Usage: "build: versions are made of commits", Build: true},
	{Name: "systemctl", Package: "systemd", Usage: "agent/dashboard: power the appliance off, restart it, set up its network", Image: true},
	{Name: "apt-config", Package: "apt", Usage: "testers/guests: how the mirror is reached", Build: true},
	{Name: "apt-get", Package: "apt", Usage: "testers/guests: where the mirror is", Build: true},
	{Name: "debugfs", Package: "e2fsprogs", Usage: "testers/guests: read a built guest's files", Build: true},
	{Name: "losetup", Package: "mount", Usage: "fixers/guest/direct: arrays as md finds them", Build: true},
	{Name: "lvm", Package: "lvm2", Usage: "fixers/guest, testers/guests: logical volumes", Build: true},
	{Name: "mke2fs", Package: "e2fsprogs", Usage: "agent/disks: make ext4 on a disk; testers/guests: an ext4 from a tree"},
	{Name: "dmsetup", Package: "dmsetup", Usage: "fixers/guest: tests compare tables with it", Build: true},
	{Name: "cryptsetup", Package: "cryptsetup-bin", Usage: "fixers/guest: tests make encrypted volumes with it", Build: true},
	{Name: "mdadm", Package: "mdadm", Usage: "fixers/guest: tests have md read what was written to its arrays", Build: true},
	{Name: "depmod", Package: "kmod", Usage: "fixers/initrd: tests compare indexes with it", Build: true},
	{Name: "dracut", Package: "dracut-core", Usage: "fixers/initrd: tests supplement its initrds", Build: true},
	{Name: "mkinitramfs", Package: "initramfs-tools-core", Usage: "fixers/initrd: tests supplement its initrds", Build: true},
	{Name: "modprobe", Package: "kmod", Usage: "fixers/initrd: tests read indexes with it", Build: true},
	{Name: "mkfs.btrfs", Package: "btrfs-progs", Usage: "fixers/guest: tests of file systems", Build: true},
	{Name: "mkfs.exfat", Package: "exfatprogs", Usage: "agent/disks: make exFAT on a disk"},
	{Name: "mkfs.ntfs", Package: "ntfs-3g", Usage: "agent/disks: make NTFS on a disk; fixers/guest: tests of file systems"},
	{Name: "mkfs.vfat", Package: "dosfstools", Usage: "testers/guests: EFI system partitions", Build: true},
	{Name: "mkfs.xfs", Package: "xfsprogs", Usage: "agent/disks: make XFS on a disk; testers/guests: XFS; fixers/guest: tests of file systems"},
	{Name: "xfs_db", Package: "xfsprogs", Usage: "fixers/guest: tests damage an XFS", Build: true},
	{Name: "mkswap", Package: "util-linux", Usage: "testers/guests: swap spaces", Build: true},
	{Name: "openssl", Package: "openssl", Usage: "build/secure-boot-keys, testers/e2e: make a key and its certificate", Build: true},
	{Name: "mmdebstrap", Package: "mmdebstrap", Usage: "testers/guests: install Debian into a tree", Build: true},
	{Name: "sfdisk", Package: "fdisk", Usage: "agent/update: read and name the partitions of the appliance; testers/guests: partition a disk"},
	{Name: "grub-script-check", Package: "grub-common", Usage: "agent/update: tests have GRUB read its menu", Build: true},
	{Name: "grub-editenv", Package: "grub-common", Usage: "agent/update: tests have GRUB read its environment block", Build: true},
	{Name: "hyper2kvm", Usage: "build: measure the program as users run it", Bench: true},
	{Name: "cp", Package: "coreutils", Usage: "transfer: what the copier is measured beside", Bench: true},
	{Name: "nbdcopy", Package: "libnbd-bin", Usage: "disk/nbd: tests copy with it, and what the client is measured beside; build: virt-v2v copies with it", Build: true},
	{Name: "xorrisofs", Package: "xorriso", Usage: "agent/library: tests make images of CDs", Build: true},
	{Name: "xorriso", Package: "xorriso", Usage: "agent/firstboot: tests read what is made for CDs", Build: true},
	{Name: "mcopy", Package: "mtools", Usage: "agent/firstboot: tests put files onto FAT, and read them", Build: true},
	{Name: "mlabel", Package: "mtools", Usage: "agent/firstboot: tests read the labels of FAT", Build: true},
	{Name: "virt-v2v", Package: "virt-v2v", Usage: "build: what a user would run instead; testers/appliance: reads the OVA", Bench: true},
	{Name: "govc", Usage: "vmware/transport: is told of, if it is there", Hook: true},
	{Name: "ovftool", Usage: "vmware/transport: is told of, if it is there", Hook: true},
	{Name: "unshare", Package: "util-linux", Usage: "testers/guests: mounts that end with who made them", Build: true},
}

// sbin is searched after PATH: ordinary users' PATH lacks it on Debian.
var sbin = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// Look returns the path of a program. A program that is absent gives an error
// that wraps ErrMissing and names the package to install; a name that is not in
// Programs is a mistake of the caller.
func Look(name string) (string, error) {
	i := slices.IndexFunc(Programs, func(p Program) bool { return p.Name == name })
	if i < 0 {
		return "", fmt.Errorf("%s is not in the table of programs", name)
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range sbin {
		path := dir + "/" + name
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	switch {
	case Programs[i].Hook:
		return "", fmt.Errorf("%s: %w: it is not in PATH", name, ErrMissing)
	case Programs[i].Package == "":
		return "", fmt.Errorf("%s: %w: run make build, and put its folder into PATH", name, ErrMissing)
	}
	return "", fmt.Errorf("%s: %w: install the package %s", name, ErrMissing, Programs[i].Package)
}
