package guests

import (
	"net/netip"

	"hyper2kvm/pipeline/machine"
)

// vault01 is a Debian 12 as its installer lays out an encrypted one: /boot by itself,
// the rest in LVM on LUKS, whose passphrase is asked for on the screen. Its
// administrator has named the encrypted partition by path in crypttab, and
// cryptsetup-initramfs keeps such a name in the initrd, where VMware's drivers are
// alone.
var vault01 = Recipe{
	Name:        "vault01",
	Release:     "bookworm",
	Packages:    []string{"open-vm-tools", "cryptsetup-initramfs", "lvm2", "busybox", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      Initrd{Tool: InitramfsTools, Modules: []string{"vmw_pvscsi", "sd_mod", "dm-crypt", "ext4", "crc32c_generic"}},
	Network:     Ifupdown,
	GrubDefault: "0",
	UUID:        "564d9b31-c06e-8f47-a2d5-71e40c9d3b86",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Contracts of the legal department",
	Disks: []Disk{{
		Size:  3 * gib,
		Table: "dos",
		ID:    "0x6fa0c518",
		WWN:   "6000c29b84d15e07fa36c2907bd41e85",
		Partitions: []Partition{
			{Filesystem: Filesystem{Mount: "/boot", Type: "ext4", Size: 256 * mib, UUID: "b3c86e14-0d7f-4a52-9be1-68f20d5c7a93"}},
			{
				Filesystem: Filesystem{Type: "luks", Size: 2560 * mib},
				Locked:     Locked{Name: "sda2_crypt", UUID: "c1f7a940-5e2b-4d86-b3a9-07e64d1f8c52", Passphrase: "Open, Sesame: 7 thieves!", Named: ByPath},
				Group: Group{Name: "vault01-vg", Volumes: []LogicalVolume{
					{"root", Filesystem{Mount: "/", Type: "ext4", Size: 2200 * mib, UUID: "5a94d07e-b81c-4f63-8e2d-c390f6a1b745"}},
					{"swap_1", Filesystem{Mount: swapSpace, Type: "swap", Size: 256 * mib, UUID: "e7012b6d-94fc-4358-a0d7-3c85e1f9b264"}},
				}},
			},
		},
	}},
	NICs: []NIC{{
		MAC:     "00:50:56:0a:17:01",
		Name:    "ens192",
		Address: netip.MustParsePrefix("203.0.113.40/24"),
		Gateway: netip.MustParseAddr("203.0.113.1"),
	}},
}
