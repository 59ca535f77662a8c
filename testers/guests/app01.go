package guests

import (
	"net/netip"

	"hyper2kvm/pipeline/machine"
)

// app01 is an application server whose administrator comes from another
// distribution: Debian 12 with its root on XFS, initrds by dracut for the host
// that they are made on, and a connection of NetworkManager that is bound to the
// card's VMware name.
var app01 = Recipe{
	Name:        "app01",
	Release:     "bookworm",
	Packages:    []string{"open-vm-tools", "xfsprogs", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      Initrd{Tool: Dracut, Modules: []string{"vmw_pvscsi", "sd_mod", "xfs"}},
	Network:     NetworkManager,
	GrubDefault: "0",
	UUID:        "564da9d3-70e5-1bc8-5f26-c4380d9ae71f",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Application server",
	Disks: []Disk{{
		Size:  3 * gib,
		Table: "dos",
		ID:    "0x48c1d70b",
		WWN:   "6000c29767a0e5d1b48f3c20691ed5fa",
		Partitions: []Partition{
			{Filesystem: Filesystem{Mount: "/", Type: "xfs", Size: 2559 * mib, UUID: "19c4e0f7-3b8d-4625-a16e-d70b92f5c83a"}},
			{Filesystem: Filesystem{Mount: swapSpace, Type: "swap", Size: 512 * mib, UUID: "a70d5c2e-94f1-4b68-8e3d-06c7b1f9e254"}},
		},
	}},
	NICs: []NIC{{
		MAC:     "00:50:56:2a:99:01",
		Name:    "ens192",
		Address: netip.MustParsePrefix("198.51.100.30/24"),
		Gateway: netip.MustParseAddr("198.51.100.1"),
	}},
}
