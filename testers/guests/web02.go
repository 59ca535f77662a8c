package guests

import "net/netip"

// web02 is web01 as Debian's installer would have left it: its disks are named
// by UUID in fstab, in the boot loader and in the initrd, and the initrd has every
// driver that a machine may need to start. virt-v2v stops at names by path, so it
// is this twin that both programs can be given.
var web02 = func() Recipe {
	r := web01
	r.Name = "web02"
	r.BootNames = AsInstalled
	r.Initrd = Initrd{Tool: InitramfsTools}
	r.UUID = "564d3b90-62fe-7d18-84c5-e10f9a2d7b43"
	r.Description = "Intranet web server, second node\nAsk \"facilities\" before a restart"
	r.Disks = []Disk{{
		Size:  4 * gib,
		Table: "dos",
		ID:    "0x5be20d97",
		WWN:   "6000c29e08f3b6c17d5a24908be1f36d",
		Partitions: []Partition{
			{Filesystem: Filesystem{Mount: "/", Type: "ext4", Size: 3583 * mib, UUID: "c81f5d07-2b94-4e36-9fa8-60e3d17c4b92"}},
			{Filesystem: Filesystem{Mount: swapSpace, Type: "swap", Size: 512 * mib, UUID: "0d9a73e6-f415-48cb-b2d0-5a7e86c1932f"}},
		},
	}}
	r.NICs = []NIC{{
		MAC:     "00:50:56:2e:71:0b",
		Name:    "ens192",
		Address: netip.MustParsePrefix("192.0.2.11/24"),
		Gateway: netip.MustParseAddr("192.0.2.1"),
		Pinned:  true,
	}}
	return r
}()
