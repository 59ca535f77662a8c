package guests

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// byPath is how Debian on ESXi names the first disk of a pvscsi controller.
const byPath = "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0"

// file is a file that a recipe puts into its guest, owned by root. With Link it
// is a symbolic link to there.
type file struct {
	Path    string
	Mode    int64
	Content string
	Link    string
}

// files is everything that makes the installed packages this guest, and what
// the finish boot needs, which takes itself away again.
func (r Recipe) files() []file {
	return []file{
		{Path: "etc/hostname", Mode: 0o644, Content: r.Name + "\n"},
		{Path: "etc/hosts", Mode: 0o644, Content: fmt.Sprintf("127.0.0.1\tlocalhost\n127.0.1.1\t%s\n", r.Name)},
		{Path: "etc/resolv.conf", Mode: 0o644, Content: fmt.Sprintf("nameserver %s\n", r.NIC.Gateway)},
		{Path: "etc/fstab", Mode: 0o644, Content: r.fstab()},
		{Path: "etc/network/interfaces", Mode: 0o644, Content: r.interfaces()},
		{Path: "etc/udev/rules.d/70-persistent-net.rules", Mode: 0o644, Content: r.udevRule()},
		{Path: "etc/initramfs-tools/conf.d/driver-policy", Mode: 0o644, Content: "MODULES=list\n"},
		{Path: "etc/initramfs-tools/conf.d/resume", Mode: 0o644, Content: fmt.Sprintf("RESUME=%s\n", r.resume())},
		{Path: "etc/initramfs-tools/modules", Mode: 0o644, Content: "# drivers of the VMware platform only\n" + strings.Join(r.InitrdList, "\n") + "\n"},
		{Path: "etc/default/grub", Mode: 0o644, Content: r.grubDefaults()},
		{Path: "etc/systemd/system/finish.service", Mode: 0o644, Content: finishUnit},
		{Path: "etc/systemd/system/multi-user.target.wants/finish.service", Link: "../finish.service"},
		{Path: "usr/local/sbin/finish", Mode: 0o755, Content: r.finishScript()},
	}
}

// fstab names every partition by VMware's path or by its UUID.
func (r Recipe) fstab() string {
	var b strings.Builder
	b.WriteString("# <file system> <mount point> <type> <options> <dump> <pass>\n")
	for i, p := range r.Disk.Partitions {
		options, pass := "errors=remount-ro", 1
		if p.Type == "swap" {
			options, pass = "sw", 0
		}
		device := fmt.Sprintf("%s-part%d", byPath, i+1)
		if r.Names == ByUUID {
			device = "UUID=" + p.UUID
		}
		fmt.Fprintf(&b, "%s %s %s %s 0 %d\n", device, p.Mount, p.Type, options, pass)
	}
	return b.String()
}

// kernelName is the name in the kernel's own order of the partition that is
// mounted there.
func (r Recipe) kernelName(mount string) string {
	return fmt.Sprintf("/dev/sda%d", 1+r.mounted(mount))
}

// mounted is the place of the partition that is mounted there.
func (r Recipe) mounted(mount string) int {
	return slices.IndexFunc(r.Disk.Partitions, func(p Partition) bool { return p.Mount == mount })
}

// swap is the swap partition's name in /proc/swaps.
func (r Recipe) swap() string { return r.kernelName("none") }

// resume is where the initrd looks for a hibernated system.
func (r Recipe) resume() string { return r.bootName("none") }

// bootName is how initrd and boot loader name the partition that is mounted there.
func (r Recipe) bootName(mount string) string {
	if r.Names == ByUUID {
		return "UUID=" + r.Disk.Partitions[r.mounted(mount)].UUID
	}
	return r.kernelName(mount)
}

func (r Recipe) interfaces() string {
	return fmt.Sprintf(`source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

# The primary network interface
auto %s
iface %[1]s inet static
	address %s
	gateway %s
	dns-nameservers %[3]s
`, r.NIC.Name, r.NIC.Address, r.NIC.Gateway)
}

// udevRule pins the card's name in the form that udev's own generator had up to
// Debian 8. The generator wrote DRIVERS=="?*"; naming the driver, as people do
// who write such rules by hand, is what makes the rule silent on virtio even
// though the hardware address stays.
// Source: systemd 208, rule_generator/write_net_rules.
func (r Recipe) udevRule() string {
	return fmt.Sprintf(`# PCI device 0x15ad:0x07b0 (vmxnet3)
SUBSYSTEM=="net", ACTION=="add", DRIVERS=="vmxnet3", ATTR{address}=="%s", ATTR{dev_id}=="0x0", ATTR{type}=="1", NAME="%s"
`, r.NIC.MAC, r.NIC.Name)
}

// grubDefaults makes update-grub write the root's bootName.
func (r Recipe) grubDefaults() string {
	if r.Names == ByUUID {
		return grubDefaults
	}
	return grubDefaults + `# the template was cloned and UUIDs were doubled
GRUB_DISABLE_LINUX_UUID=true
`
}

// grubDefaults are Debian's, but for the default: the second kernel on offer, by
// its place in the menu, as administrators write it.
const grubDefaults = `GRUB_DEFAULT="1>2"
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=` + "`lsb_release -i -s 2> /dev/null || echo Debian`" + `
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX=""
`

// debconf answers what the installer asked: grub-pc's own record of the disk to
// install to is one that exists on VMware only.
func (r Recipe) debconf() string {
	return fmt.Sprintf("grub-pc grub-pc/install_devices multiselect /dev/disk/by-id/scsi-3%s\n"+
		"grub-pc grub-pc/install_devices_empty boolean false\n", r.Disk.WWN)
}

// installed is the time that our files bear, so that a recipe's hash stays.
var installed = time.Date(2025, time.January, 1, 0, 0, 0, 0, time.UTC)

// overlay is the files as a tar archive, the same bytes each time.
func overlay(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		head := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: f.Mode, Size: int64(len(f.Content)), ModTime: installed}
		if f.Link != "" {
			head.Typeflag, head.Linkname, head.Mode = tar.TypeSymlink, f.Link, 0o777
		}
		if err := w.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(f.Content)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
