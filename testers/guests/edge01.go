package guests

import (
	"net/netip"

	"hyper2kvm/pipeline/machine"
)

// edge01 stands between two networks: Debian 12 on a BIOS whose netplan knows two
// cards by their VMware names, one with a gateway and one without. Its data is
// on a second disk, which fstab names in the kernel's order.
var edge01 = Recipe{
	Name:        "edge01",
	Release:     "bookworm",
	Packages:    []string{"open-vm-tools", "xfsprogs", "busybox", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      Initrd{Tool: InitramfsTools, Modules: []string{"vmw_pvscsi", "sd_mod", "ext4", "crc32c_generic", "vmxnet3"}},
	Network:     Netplan,
	GrubDefault: "0",
	UUID:        "564dc2e7-1a80-5f3b-96d4-08b7e35fa91c",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Relay of the office network",
	Disks: []Disk{
		{
			Size:  3 * gib,
			Table: "dos",
			ID:    "0x1c74b9e3",
			WWN:   "6000c293f71d5ac80e64b2917c05d8fe",
			Partitions: []Partition{
				{Filesystem: Filesystem{Mount: "/", Type: "ext4", Size: 2559 * mib, UUID: "d90b6e3c-75a2-4f18-8c4d-e31f07a95b62"}},
				{Filesystem: Filesystem{Mount: swapSpace, Type: "swap", Size: 512 * mib, UUID: "41f6a8d0-c35e-4972-b08b-7e9d25c4f163"}},
			},
		},
		{
			Size:  1 * gib,
			Table: "dos",
			ID:    "0x93d0f62a",
			WWN:   "6000c29c05e84b7d916fa32d80b7e41c",
			Partitions: []Partition{
				{Filesystem: Filesystem{Mount: "/srv", Type: "xfs", Size: 1023 * mib, UUID: "b2e75c91-6f0d-4a83-9e16-48d3c07fa52e", Named: ByKernel}},
			},
		},
	},
	NICs: []NIC{
		{MAC: "00:50:56:0e:d9:01", Name: "ens192", Address: netip.MustParsePrefix("203.0.113.20/24"), Gateway: netip.MustParseAddr("203.0.113.1")},
		{MAC: "00:50:56:0e:d9:02", Name: "ens224", Address: netip.MustParsePrefix("198.51.100.20/24")},
	},
}
