// Package inspect finds out what is installed on a guest's disks. It reads and
// never assumes: every record of Facts says where it was read, and what was not
// found is absent rather than guessed. It is the same code over every engine.
package inspect

import (
	"net/netip"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// Families of operating systems.
const (
	Linux   = "linux"
	Windows = "windows"
)

// Facts is what inspection found.
type Facts struct {
	OS          OS             `json:"os"`
	Firmware    Firmware       `json:"firmware"`
	Topology    guest.Topology `json:"topology"`
	Aliases     []Alias        `json:"aliases,omitempty"`
	Mounts      []Mount        `json:"mounts"`      // in the order in which they are mounted
	Bootloaders []Bootloader   `json:"bootloaders"` // all that were found
	Kernels     []Kernel       `json:"kernels"`     // every one on offer
	Network     Network        `json:"network"`
	VMware      []Leftover     `json:"vmware"`  // what VMware left in the guest
	Init        Found          `json:"init"`    // systemd, sysvinit, openrc …
	SELinux     Found          `json:"selinux"` // enforcing, permissive, disabled, or "" for none
	Agents      []Found        `json:"agents"`  // guest agents installed
	// Problems are what could not be read or mounted, and where it was met.
	// None of them stopped the inspection.
	Problems []Found `json:"problems,omitempty"`
}

// Alias is a name that the guest's own configuration gives to a volume.
type Alias struct {
	Name   string `json:"name"`   // /dev/md0
	Device string `json:"device"` // the topology's name
	Source string `json:"source"` // "/etc/mdadm/mdadm.conf:3"
}

// Found is one finding and where it was read.
type Found struct {
	Value  string `json:"value"`
	Source string `json:"source,omitempty"`
}

// OS is the operating system.
type OS struct {
	Family   string `json:"family"`            // Linux, Windows, or "" when it is neither
	Distro   string `json:"distro,omitempty"`  // os-release's ID: debian, ubuntu, rhel …
	Version  string `json:"version,omitempty"` // os-release's VERSION_ID
	Name     string `json:"name,omitempty"`    // for people
	Arch     string `json:"arch,omitempty"`    // as Debian names it: amd64, i386, arm64
	Systemd  int    `json:"systemd,omitempty"` // systemd's version, 0 when there is none or it is not known
	Hostname string `json:"hostname,omitempty"`
	// MachineID is systemd's, "" in a guest that makes one when it boots.
	MachineID string `json:"machine_id,omitempty"`
	Source    string `json:"source"`
}

// Firmware is the firmware that the installed boot loader starts from.
type Firmware struct {
	Used   machine.Firmware `json:"used"`
	Source string           `json:"source"` // the evidence
}

// Mount is one file system of the guest and where it belongs.
type Mount struct {
	Device  string `json:"device"` // the topology's name; "" when the name leads to no file system
	Path    string `json:"path"`   // folder; "none" for swap
	Spec    string `json:"spec"`   // as it stands in fstab
	Type    string `json:"type"`
	Options string `json:"options,omitempty"`
	// Subvolume is the ID of that which is mounted of a btrfs; 0 where it has none, or
	// none are known.
	Subvolume uint64 `json:"subvolume,omitempty"`
	Source    string `json:"source"` // "/etc/fstab:3"
}

// Bootloader is one installed boot loader.
type Bootloader struct {
	Kind   string `json:"kind"`             // grub2, grub2-bls, grub1, systemd-boot, lilo, syslinux, extlinux, refind, uki
	Config string `json:"config,omitempty"` // resolved path of its configuration
	Source string `json:"source"`
}

// Kernel is one kernel that the boot loader offers or that is installed.
type Kernel struct {
	Version   string `json:"version"`             // the folder's name under /lib/modules
	Image     string `json:"image"`               // /boot/vmlinuz-…, links resolved; "" when only modules are there
	Initrd    string `json:"initrd,omitempty"`    // /boot/initrd.img-…, links resolved; "" for none
	Modules   string `json:"modules,omitempty"`   // /lib/modules/…; "" when absent
	Generator string `json:"generator,omitempty"` // initramfs-tools, dracut, …
	Default   bool   `json:"default"`             // the one that the boot loader starts
	Offered   bool   `json:"offered"`             // a boot loader's configuration names it
	Options   string `json:"options,omitempty"`   // its command line as the boot loader has it
	Unified   bool   `json:"unified,omitempty"`   // kernel, initrd and command line are in one EFI program, the image
	Stub      int    `json:"stub,omitempty"`      // of a unified image: the version of the systemd-stub that starts it, 0 for another
	// Drivers says of each driver in WantedDrivers where it is.
	Drivers map[string]Where `json:"drivers"`
	// Unstable are device names baked into the initrd.
	Unstable []Found `json:"unstable,omitempty"`
	// Problem is why the above is incomplete: an initrd that cannot be read, an
	// image that is not there. Empty when all is known.
	Problem string `json:"problem,omitempty"`
	Source  string `json:"source"`
}

// Where tells where a kernel's driver is.
type Where string

// Where a driver can be.
const (
	Builtin  Where = "builtin"
	InInitrd Where = "initrd"
	OnDisk   Where = "modules" // in /lib/modules only: too late for the root disk
	Nowhere  Where = "nowhere"
)

// WantedDrivers are the drivers that a guest on KVM uses: those before the
// root file system first.
var WantedDrivers = []string{"virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net", "ahci", "virtio_balloon", "virtio_rng", "virtio_console"}

// Network is the guest's network configuration.
type Network struct {
	Stacks     []Found     `json:"stacks"`         // in use: ifupdown, networkd, NetworkManager, netplan, ifcfg, wicked
	Idle       []Found     `json:"idle,omitempty"` // configured, but nothing starts them
	Interfaces []Interface `json:"interfaces"`     // one for each stanza, file or profile, of all stacks
	Pins       []Pin       `json:"pins"`
}

// Methods by which an interface gets its addresses.
const (
	Static = "static" // as configured, and what IPv6 may get besides
	DHCP   = "dhcp"   // an IPv4 lease, and what is configured besides
	Auto   = "auto"   // IPv6 alone, from routers or DHCPv6
	Manual = "manual" // none
)

// Services that bring interfaces up. The first two give a card the first
// configuration that fits it, the others every one.
const (
	ByNetworkd       = "networkd"
	ByNetworkManager = "NetworkManager"
	ByIfupdown       = "ifupdown"
	ByInitscripts    = "initscripts"
	ByWicked         = "wicked"
)

// Interface is one configuration of an interface. What it says of Name, MAC,
// Driver and Path must all be true of a card that it is for.
type Interface struct {
	Name      string         `json:"name"`             // ens192; patterns with blanks between them, all inverted by a leading !; "" for any
	ID        string         `json:"id,omitempty"`     // how other configuration calls it: netplan's key, NetworkManager's UUID
	MAC       string         `json:"mac,omitempty"`    // the card's own, not one to be set
	Driver    string         `json:"driver,omitempty"` // patterns with blanks between them
	Path      string         `json:"path,omitempty"`   // patterns of udev's ID_PATH
	Kind      string         `json:"kind,omitempty"`   // bond, bridge, team, vlan …; "" for a card
	Master    string         `json:"master,omitempty"` // name or ID of the bond, bridge or team that it is a port of
	Parent    string         `json:"parent,omitempty"` // name or ID of what a VLAN lies on
	Method    string         `json:"method"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Gateway   netip.Addr     `json:"gateway,omitzero"`  // IPv4, in the main routing table
	Gateway6  netip.Addr     `json:"gateway6,omitzero"` // likewise
	Off       bool           `json:"off,omitempty"`     // not brought up at boot
	Idle      bool           `json:"idle,omitempty"`    // nothing starts what would bring it up, and another stack is started
	Stack     string         `json:"stack"`
	By        string         `json:"by"`     // what brings it up
	Source    string         `json:"source"` // "/etc/network/interfaces:9"
}

// Pin ties an interface's name to its hardware.
type Pin struct {
	Name   string `json:"name"` // the name that is given
	MAC    string `json:"mac,omitempty"`
	Driver string `json:"driver,omitempty"` // when the rule asks for a driver
	Path   string `json:"path,omitempty"`   // when the rule asks for a PCI path
	Kind   string `json:"kind"`             // udev-rule, link, netplan
	Source string `json:"source"`
}

// Leftover is something of VMware's in the guest.
type Leftover struct {
	Kind   string `json:"kind"` // package, unit, udev-rule, module-option, initrd-list, config, tarball, x11
	Name   string `json:"name"`
	Source string `json:"source"`
}

// MountAt finds what the guest mounts at path.
func (f Facts) MountAt(path string) (Mount, bool) {
	for _, m := range f.Mounts {
		if m.Path == path {
			return m, true
		}
	}
	return Mount{}, false
}

// mountsAt tells whether a file system of the guest is mounted at path.
func (f Facts) mountsAt(path string) bool {
	m, ok := f.MountAt(path)
	return ok && m.Device != ""
}

// Filesystem finds a file system by the topology's name of its device.
func (f Facts) Filesystem(device string) (guest.Filesystem, bool) {
	for _, fs := range f.Topology.Filesystems {
		if fs.Device == device {
			return fs, true
		}
	}
	return guest.Filesystem{}, false
}
