package guests

import "fmt"

// Bus is what the guest's disks are on.
type Bus string

// Controllers of VMware that QEMU has, too.
const (
	PVSCSI Bus = ""     // as most guests have
	NVMe   Bus = "nvme" // what Debian 12's OVMF can boot from: it does not drive PVSCSI
)

// bus says what a controller and its disks are called: in by-path names, by the
// kernel, in VMX files and by QEMU. QEMU's is behind the third root port, so it is
// 0000:03:00.0, where VMware puts its first PVSCSI controller.
type bus struct {
	path       func(disk int) string
	kernel     func(disk, partition int) string
	place      string // of disks in VMX files, before a colon and the disk's number
	settings   [][2]string
	controller string
	device     func(disk int) string
}

var buses = map[Bus]bus{
	PVSCSI: {
		path:   func(i int) string { return fmt.Sprintf("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:%d:0", i) },
		kernel: func(i, partition int) string { return fmt.Sprintf("/dev/sd%c%d", 'a'+i, partition) },
		place:  "scsi0",
		settings: [][2]string{
			{"scsi0.present", "TRUE"},
			{"scsi0.virtualDev", "pvscsi"},
			{"scsi0.pciSlotNumber", "160"},
		},
		controller: "pvscsi,id=scsi0,bus=port3",
		device:     func(i int) string { return fmt.Sprintf("scsi-hd,bus=scsi0.0,scsi-id=%d,drive=disk%[1]d", i) },
	},
	NVMe: {
		path:   func(i int) string { return fmt.Sprintf("/dev/disk/by-path/pci-0000:03:00.0-nvme-%d", i+1) },
		kernel: func(i, partition int) string { return fmt.Sprintf("/dev/nvme0n%dp%d", i+1, partition) },
		place:  "nvme0",
		settings: [][2]string{
			{"nvme0.present", "TRUE"},
			{"nvme0.pciSlotNumber", "224"},
		},
		controller: "nvme,id=nvme0,bus=port3,serial=VMWare NVME_0000",
		device:     func(i int) string { return fmt.Sprintf("nvme-ns,bus=nvme0,nsid=%d,drive=disk%d", i+1, i) },
	},
}

// byPath is how Debian on ESXi names a disk.
func (r Recipe) byPath(disk int) string { return buses[r.Bus].path(disk) }
