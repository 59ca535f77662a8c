// Package guests builds real test guests: a Debian installed as on VMware, with
// what makes such a guest hard to move. Nothing in them is faked: packages come
// from the machine's own Debian mirror, the initrd from the guest's own tool,
// and the boot loader from grub-install, run by the guest itself while it
// stands on VMware's disk and network devices.
//
// A guest enters the cache only after its VMDK booted once more, green, on
// those devices: a failure on virtio then says something about the move.
//
// Recipe: what a guest is. Guest: a recipe that was built, in the cache.
// Finish boot: the first boot, which installs the boot loader.
// Control boot: the boot that proves the finished VMDK on VMware's devices.
package guests

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// Recipe says what a guest is. Its hash is part of its name in the cache.
type Recipe struct {
	Name        string   // host name, VM name and name of its files
	Release     string   // Debian's code name
	Packages    []string // beyond the base of its release
	InitrdList  []string // modules that the initrd is made of, dependencies apart
	UUID        string   // of the VM, as the BIOS shows it
	CPUs        int
	MemoryMB    int
	Names       Names `json:",omitempty"` // of its disks, in its own configuration
	Disk        Disk
	NIC         NIC
	Description string // the VM's annotation
}

// Names is how a guest's configuration names its partitions.
type Names string

const (
	Unstable Names = ""     // by VMware's path in fstab, else by the kernel's order
	ByUUID   Names = "uuid" // as Debian's installer writes them
)

// Disk is a guest's only disk, on the first place of a paravirtual SCSI
// controller, with an MBR.
type Disk struct {
	Size       int64  // bytes
	Label      uint32 // the MBR's disk identifier, so PARTUUIDs are known
	WWN        string // NAA identifier without the leading "naa."
	Partitions []Partition
}

// Partition is one primary partition. Partitions follow each other.
type Partition struct {
	Mount string // mount point, or "none" for swap
	Type  string // "ext4" or "swap"
	Size  int64  // bytes, a multiple of 1 MiB
	UUID  string // of the file system or swap space
}

// NIC is a guest's only network card, a vmxnet3 with a static address.
type NIC struct {
	MAC     string // lower case, with colons
	Name    string // the interface's name in the guest
	Address netip.Prefix
	Gateway netip.Addr
}

// Guest is a built guest. Nobody writes to its files: put an overlay over them.
type Guest struct {
	Recipe
	Dir  string `json:"-"` // its folder in the cache
	VMDK string `json:"-"` // the disk, stream-optimized
	VMX  string `json:"-"` // the VM's settings, as VMware writes them

	SHA256  string              // of the VMDK
	Bytes   int64               // size of the VMDK
	Initrds map[string][]string // kernel version to the modules in its initrd
	Control time.Duration       // from power-on to an answer of its static address
	Took    map[string]string   // how long each step of the build took
}

// All is every recipe.
var All = []Recipe{web01, web02}

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
	parts, err := json.Marshal([]any{r, basePackages, r.files(), r.vmx(), r.debconf(), r.partitionScript(), rootArgs(r, mirror{}, "", "", ""), finishArgs(r, "", "", kernel{})})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(parts)
	return r.Name + "-" + hex.EncodeToString(sum[:6]), nil
}
