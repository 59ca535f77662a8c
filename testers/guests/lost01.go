package guests

import (
	"net/netip"

	"hyper2kvm/pipeline/machine"
)

// lost01 is a Debian 12 that nobody has reached for a while: its network is
// configured for a card that it had before, and the one that it has matches
// nothing. It boots well, on VMware as elsewhere, and is known by its console.
var lost01 = Recipe{
	Name:        "lost01",
	Release:     "bookworm",
	Packages:    []string{"open-vm-tools", "busybox", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      Initrd{Tool: InitramfsTools, Modules: []string{"vmw_pvscsi", "sd_mod", "ext4", "crc32c_generic", "vmxnet3"}},
	Network:     Ifupdown,
	GrubDefault: "0",
	Console:     true,
	UUID:        "564d815f-e4b0-6c27-8a93-5d12f07bce84",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Unknown owner",
	Disks: []Disk{{
		Size:  3 * gib,
		Table: "dos",
		ID:    "0xe0528fd1",
		WWN:   "6000c2912e7cb480d35f9a61e4087bd3",
		Partitions: []Partition{
			{Filesystem: Filesystem{Mount: "/", Type: "ext4", Size: 2559 * mib, UUID: "50d7f2e8-b1c9-4360-9a7e-2f84c6d1035b"}},
			{Filesystem: Filesystem{Mount: swapSpace, Type: "swap", Size: 512 * mib, UUID: "e61a9d47-8f3c-4052-bd7b-c90f15e2a384"}},
		},
	}},
	NICs: []NIC{{
		MAC:          "00:50:56:35:10:57",
		Name:         "ens192",
		ConfiguredAs: "ens224",
		Address:      netip.MustParsePrefix("192.0.2.40/24"),
		Gateway:      netip.MustParseAddr("192.0.2.1"),
	}},
}
