package guests

import (
	"net/netip"

	"hyper2kvm/pipeline/machine"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// web01 is a small server as they are found on ESXi: Debian 12 on a BIOS, moved
// around long enough to name its disks by path and by kernel order, its initrd
// cut down to VMware's drivers, its card pinned to the vmxnet3 driver, and two
// kernels on offer, of which it boots the second, by its place in the menu, as
// administrators write it. On virtio it finds neither root nor network.
var web01 = Recipe{
	Name:        "web01",
	Release:     "bookworm",
	Packages:    []string{"open-vm-tools", "linux-image-cloud-amd64", "busybox", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      Initrd{Tool: InitramfsTools, Modules: []string{"vmw_pvscsi", "sd_mod", "ext4", "crc32c_generic", "vmxnet3"}},
	Network:     Ifupdown,
	BootNames:   ByKernel,
	GrubDefault: "1>2",
	UUID:        "564d7c1e-5f0b-4a1c-9d3a-2b7e8c41f0a6",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Intranet web server\nAsk \"facilities\" before a restart",
	Disks: []Disk{{
		Size:  4 * gib,
		Table: "dos",
		ID:    "0x7a3c91e4",
		WWN:   "6000c29a4be15d07f2c8913e60d7b45a",
		Partitions: []Partition{
			{Filesystem: Filesystem{Mount: "/", Type: "ext4", Size: 3583 * mib, UUID: "3f0e6c1a-8d52-4b7e-a1c4-95d20b6e7f18", Named: ByPath}},
			{Filesystem: Filesystem{Mount: swapSpace, Type: "swap", Size: 512 * mib, UUID: "b7d41e92-06a3-4c5f-8e17-c2f9034a6d5b", Named: ByPath}},
		},
	}},
	NICs: []NIC{{
		MAC:     "00:50:56:12:c0:10",
		Name:    "ens192",
		Address: netip.MustParsePrefix("192.0.2.10/24"),
		Gateway: netip.MustParseAddr("192.0.2.1"),
		Pinned:  true,
	}},
}
