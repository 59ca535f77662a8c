package guests

import (
	"net/netip"

	"hyper2kvm/pipeline/machine"
)

// mirror01 is a Debian 12 on two disks that are one another's mirror: its root and its
// swap space are RAID 1 of md's, and GRUB is on both disks, as its installer does it.
// Its initrd has VMware's drivers alone.
var mirror01 = Recipe{
	Name:        "mirror01",
	Release:     "bookworm",
	Packages:    []string{"open-vm-tools", "mdadm", "busybox", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      Initrd{Tool: InitramfsTools, Modules: []string{"vmw_pvscsi", "sd_mod", "raid1", "ext4", "crc32c_generic"}},
	Network:     Ifupdown,
	GrubDefault: "0",
	UUID:        "564d27e8-4fb1-a350-8c6d-92d7105be3fa",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Mail of the office",
	Disks: []Disk{
		mirrorDisk("0x2d81f6b7", "6000c298e53a07fd1c94b6208e7d15fa"),
		mirrorDisk("0xe4409c3d", "6000c29176d2f80be5ca4390f81b7d26"),
	},
	Arrays: []Array{
		{Number: 0, Partition: 1, UUID: "8f03b7d2:6c15e94a:3d70a8f1:b25ec964", Filesystem: Filesystem{Mount: "/", Type: "ext4", Size: 2304 * mib, UUID: "90d3f5a7-1e6c-4b28-a74f-d8e02c61b593"}},
		{Number: 1, Partition: 2, UUID: "1ab65d09:f2e8437c:90cd15b6:7e4f38a0", Filesystem: Filesystem{Mount: swapSpace, Type: "swap", Size: 256 * mib, UUID: "3e7b81c6-d50a-4f92-86e3-a9c4f70d1b28"}},
	},
	NICs: []NIC{{
		MAC:     "00:50:56:0a:11:02",
		Name:    "ens192",
		Address: netip.MustParsePrefix("203.0.113.50/24"),
		Gateway: netip.MustParseAddr("203.0.113.1"),
	}},
}

func mirrorDisk(id, wwn string) Disk {
	return Disk{
		Size:  3 * gib,
		Table: "dos",
		ID:    id,
		WWN:   wwn,
		Partitions: []Partition{
			{Filesystem: Filesystem{Type: raidMember, Size: 2368 * mib}},
			{Filesystem: Filesystem{Type: raidMember, Size: 320 * mib}},
		},
	}
}
