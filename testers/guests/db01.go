package guests

import (
	"time"

	"hyper2kvm/pipeline/machine"
)

// db01 is a database server: Debian 13 on UEFI and an NVMe controller, its root in
// LVM with an XFS volume for data, its address leased to the card that systemd-networkd knows by
// its VMware name.
//
// Its boot loader is in the ESP under Debian's own name only, since neither
// Debian's installer nor grub-install writes EFI/BOOT/BOOTX64.EFI unless asked to
// (debconf grub2/force_efi_extra_removable). The firmware's entry for it is in
// VMware's variables, which do not move along: another firmware finds nothing to
// start.
//
// It is patient: the many programs that systemd 257 starts take an emulated
// machine on a busy host beyond the usual limits, and then into emergency mode.
var db01 = Recipe{
	Name:        "db01",
	Release:     "trixie",
	Packages:    []string{"open-vm-tools", "dosfstools", "lvm2", "xfsprogs", "busybox", "zstd"},
	Firmware:    machine.UEFI,
	Bus:         NVMe,
	Initrd:      Initrd{Tool: InitramfsTools, Modules: []string{"vmw_pvscsi", "nvme", "dm-mod", "ext4", "vmxnet3"}},
	Network:     Networkd,
	GrubDefault: "0",
	Patience:    5 * time.Minute,
	UUID:        "564d06fa-93c7-b25e-4d18-70ea5b9c26d1",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "Database of the warehouse",
	Disks: []Disk{{
		Size:  5 * gib,
		Table: "gpt",
		ID:    "0B6E2C94-51D7-4F8A-9E03-C7A45D1B60F2",
		WWN:   "6000c2958d0b6ea1f37c42905be81d64",
		Partitions: []Partition{
			{GUID: "D34A1F70-2C8B-4E95-8B61-0F9E57C2A413", Filesystem: Filesystem{Mount: "/boot/efi", Type: "vfat", Size: 256 * mib, UUID: "5E1D-0A7C"}},
			{GUID: "91C5E2B8-7F06-4D3A-A4D9-62B80E13F75C", Filesystem: Filesystem{Mount: "/boot", Type: "ext4", Size: 384 * mib, UUID: "6a0c85f1-e27d-4b39-8d54-f1b39e60c728"}},
			{GUID: "4E87B03D-A6F1-4C52-9D78-3A5C6F02E1B9", Filesystem: Filesystem{Type: "lvm", Size: 4400 * mib}, Group: Group{
				Name: "db01-vg",
				Volumes: []LogicalVolume{
					{"root", Filesystem{Mount: "/", Type: "ext4", Size: 2800 * mib, UUID: "27e9d4b6-08f3-4a1c-b5c7-9d60e2f81a35"}},
					{"swap_1", Filesystem{Mount: swapSpace, Type: "swap", Size: 512 * mib, UUID: "f58b1c03-4d96-4e7a-92e8-1b7c05d3a6f4"}},
					{"srv", Filesystem{Mount: "/srv", Type: "xfs", Size: 1024 * mib, UUID: "8c3f7a52-d1e4-4609-a7b8-50e69c2d4f1b"}},
				},
			}},
		},
	}},
	NICs: []NIC{{MAC: "00:50:56:1d:b0:01", Name: "ens192"}},
}
