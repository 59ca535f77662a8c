// Package guests builds real test guests: a Debian installed as on VMware, with
// what makes such a guest hard to move. Nothing in them is faked: packages come
// from the machine's own Debian mirror, the initrd from the guest's own tool,
// and the boot loader from grub-install, run by the guest itself while it
// stands on VMware's disk and network devices.
//
// A guest enters the cache only after its VMDKs booted once more, green, on
// those devices: a failure on virtio then says something about the move.
//
// Recipe: what a guest is. Guest: a recipe that was built, in the cache.
// Volume: a file system or a swap space, and where it is.
// Stack: what needs another kernel than this machine's to be made, LUKS and md.
// Finish boot: the first boot, which installs the boot loader.
// Control boot: the boot that proves the finished VMDKs on VMware's devices.
package guests

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"hyper2kvm/pipeline/machine"
)

// Recipe says what a guest is. Its hash is part of its name in the cache.
type Recipe struct {
	Name        string   // host name, VM name and name of its files
	Release     string   // Debian's code name
	Packages    []string // beyond what its firmware, initrd and network take
	Firmware    machine.Firmware
	Bus         Bus `json:",omitempty"`
	Initrd      Initrd
	Network     Network
	BootNames   Names  // how the boot loader and the initrd name disks
	GrubDefault string // the kernel that GRUB starts, as GRUB_DEFAULT says it
	Console     bool   // kernel messages and a login prompt on the first serial port
	// Patience is how long systemd waits for a device or a service, if it is not
	// the usual one and a half minutes.
	Patience    time.Duration `json:",omitempty"`
	UUID        string        // of the VM, as the firmware shows it
	CPUs        int
	MemoryMB    int
	Disks       []Disk  // the first is booted from
	Arrays      []Array `json:",omitempty"`
	NICs        []NIC
	Description string // the VM's annotation
}

// Initrd is how the guest makes its initrds.
type Initrd struct {
	Tool    Tool
	Modules []string // that must be inside, dependencies apart; empty: what Debian's installer has the tool choose
}

// Disk is on the place of its bus that its place in the recipe says.
type Disk struct {
	Size       int64  // bytes
	Table      string // "dos" or "gpt"
	ID         string // of the table: 0x and 8 digits in an MBR, else a GUID
	WWN        string // NAA identifier without the leading "naa."
	Partitions []Partition
}

// Partition holds a file system, or the volumes of an LVM group. Partitions
// follow each other; those of an MBR are primary ones.
type Partition struct {
	Filesystem
	GUID  string // in a GPT
	Group Group  // if it has a name, the partition is its only physical volume
	// Locked is, if it has a name, what LUKS makes of the partition: the group then lies
	// in it.
	Locked Locked `json:",omitzero"`
}

// Group is a volume group. Its logical volumes follow each other.
type Group struct {
	Name    string
	Volumes []LogicalVolume
}

// LogicalVolume is one volume of a group.
type LogicalVolume struct {
	Name string
	Filesystem
}

// Filesystem is what a volume holds.
type Filesystem struct {
	Mount string // mount point, or swapSpace
	Type  string // "ext4", "xfs", "btrfs", "vfat" or "swap"; of a physical volume "lvm", of a member of an array "raid"
	Size  int64  // bytes, a multiple of 1 MiB, in a group of 4 MiB
	UUID  string // a vfat's is eight digits with a hyphen, such as 5E1D-0A7C
	Named Names  // how fstab names it
	// Subvolume is what is mounted of a btrfs, and Beside are its others.
	Subvolume string      `json:",omitempty"`
	Beside    []Subvolume `json:",omitempty"`
	// Snapshot is where the guest keeps a read-only snapshot of that subvolume, as
	// snapper does: a folder in a subvolume of its own.
	Snapshot string `json:",omitempty"`
}

// Subvolume is one of a btrfs, below its top level.
type Subvolume struct {
	Name  string
	Mount string
}

// swapSpace is the mount point of swap, as fstab has it.
const swapSpace = "none"

// Names is how a guest's configuration names a volume.
type Names string

// Ways to name a volume.
const (
	AsInstalled Names = ""       // as Debian's installer does: by UUID, or a logical volume by its own name
	ByPath      Names = "path"   // by its place on VMware's controller
	ByKernel    Names = "kernel" // in the order in which the kernel found the disks
)

// NIC is a network card, a vmxnet3 in the PCI slot that its place in the recipe
// says.
type NIC struct {
	MAC     string       // lower case, with colons
	Name    string       // the interface's name in the guest
	Address netip.Prefix // static, or none: by DHCP
	Gateway netip.Addr   // if it has one
	Pinned  bool         // its name is given by a udev rule for VMware's driver
	// ConfiguredAs is the interface that the guest's configuration is for, when
	// that is not Name: the card then never has an address.
	ConfiguredAs string
}

// Guest is a built guest. Nobody writes to its files: put an overlay over them.
type Guest struct {
	Recipe
	Dir   string   `json:"-"` // its folder in the cache
	VMDK  string   `json:"-"` // the first disk, stream-optimized
	VMDKs []string `json:"-"` // all disks
	VMX   string   `json:"-"` // the VM's settings, as VMware writes them

	SHA256  string              // of all VMDKs, one after another
	Bytes   int64               // size of all VMDKs
	Initrds map[string][]string // kernel version to the modules in its initrd
	Control time.Duration       // from power-on until the guest was up
	Took    map[string]string   // how long each step of the build took
}

// All is every recipe.
var All = []Recipe{web01, web02, db01, app01, edge01, lost01, file01, vault01, mirror01}

// Named returns the recipe of that name.
func Named(name string) (Recipe, error) {
	for _, r := range All {
		if r.Name == name {
			return r, nil
		}
	}
	return Recipe{}, fmt.Errorf("no recipe is named %q", name)
}

// id is the guest's name in the cache: it changes with everything that we put
// into the guest, though not with the versions that the mirror offers.
func (r Recipe) id() (string, error) {
	what := []any{r, r.basePackages(), r.files(), r.vmx(), r.debconf(), rootArgs(r, mirror{}, "", "", ""), finishArgs(r, "", "", "", kernel{})}
	for _, d := range r.Disks {
		what = append(what, d.partitionScript())
	}
	for _, v := range r.volumes() {
		what = append(what, makers[v.Type].args(v, "", ""))
	}
	parts, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(parts)
	return r.Name + "-" + hex.EncodeToString(sum[:6]), nil
}
