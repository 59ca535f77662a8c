package guests

import (
	"net/netip"

	"hyper2kvm/pipeline/machine"
)

// file01 is a file server on btrfs: Debian 12 as its installer lays it out there,
// the system in a subvolume @rootfs that is not what a mount shows by itself, with
// what its administrator added: the homes in a subvolume of their own, and a
// read-only snapshot of the system, which looks like it in every file. Its fstab
// names disks by path, and its initrd has VMware's drivers alone.
var file01 = Recipe{
	Name:        "file01",
	Release:     "bookworm",
	Packages:    []string{"open-vm-tools", "btrfs-progs", "busybox", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      Initrd{Tool: InitramfsTools, Modules: []string{"vmw_pvscsi", "sd_mod", "btrfs", "crc32c_generic"}},
	Network:     Ifupdown,
	GrubDefault: "0",
	UUID:        "564d4e0b-a7d2-9c35-68f1-2b93d07ce84a",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Files of the office",
	Disks: []Disk{{
		Size:  3 * gib,
		Table: "dos",
		ID:    "0xb15e07c4",
		WWN:   "6000c29d3c70e5a8f14b62907de8135c",
		Partitions: []Partition{
			{Filesystem: Filesystem{
				Mount: "/", Type: "btrfs", Size: 2559 * mib, UUID: "7e2b9c50-1d48-4fa3-86e7-f30c5a9d1b24", Named: ByPath,
				Subvolume: "@rootfs",
				Beside:    []Subvolume{{"@home", "/home"}},
				Snapshot:  "/.snapshots/1/snapshot",
			}},
			{Filesystem: Filesystem{Mount: swapSpace, Type: "swap", Size: 512 * mib, UUID: "c4d80e17-b93a-4625-af5c-61e2d97b0384", Named: ByPath}},
		},
	}},
	NICs: []NIC{{
		MAC:     "00:50:56:0b:7f:01",
		Name:    "ens192",
		Address: netip.MustParsePrefix("203.0.113.30/24"),
		Gateway: netip.MustParseAddr("203.0.113.1"),
	}},
}
