package guests

import (
	"fmt"
	"strings"
)

// vmx is the VM's settings file as ESXi 7 writes one. The card's address is a
// static one, which virt-v2v loses (it reads generated addresses only); the PCI
// slots are those that VMware gives to the first pvscsi and the first vmxnet3.
func (r Recipe) vmx() string {
	lines := [][2]string{
		{".encoding", "UTF-8"},
		{"config.version", "8"},
		{"virtualHW.version", "19"},
		{"displayName", r.Name},
		{"annotation", r.Description},
		{"guestOS", "debian12-64"},
		{"firmware", "bios"},
		{"numvcpus", fmt.Sprint(r.CPUs)},
		{"memSize", fmt.Sprint(r.MemoryMB)},
		{"uuid.bios", vmxUUID(r.UUID)},
		{"uuid.location", vmxUUID(r.UUID)},
		{"disk.EnableUUID", "TRUE"},
		{"pciBridge0.present", "TRUE"},
		{"pciBridge4.present", "TRUE"},
		{"pciBridge4.virtualDev", "pcieRootPort"},
		{"pciBridge4.functions", "8"},
		{"pciBridge5.present", "TRUE"},
		{"pciBridge5.virtualDev", "pcieRootPort"},
		{"pciBridge5.functions", "8"},
		{"pciBridge0.pciSlotNumber", "17"},
		{"pciBridge4.pciSlotNumber", "21"},
		{"pciBridge5.pciSlotNumber", "22"},
		{"scsi0.present", "TRUE"},
		{"scsi0.virtualDev", "pvscsi"},
		{"scsi0.pciSlotNumber", "160"},
		{"scsi0:0.present", "TRUE"},
		{"scsi0:0.deviceType", "scsi-hardDisk"},
		{"scsi0:0.fileName", r.Name + ".vmdk"},
		{"ethernet0.present", "TRUE"},
		{"ethernet0.virtualDev", "vmxnet3"},
		{"ethernet0.pciSlotNumber", "192"},
		{"ethernet0.networkName", "VM Network"},
		{"ethernet0.addressType", "static"},
		{"ethernet0.address", r.NIC.MAC},
		{"floppy0.present", "FALSE"},
		{"svga.present", "TRUE"},
		{"vmci0.present", "TRUE"},
		{"tools.syncTime", "FALSE"},
		{"powerType.powerOff", "soft"},
	}
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&b, "%s = \"%s\"\n", line[0], vmxEscape.Replace(line[1]))
	}
	return b.String()
}

// vmxEscape writes what would end a value or a line as "|" and two hex digits.
// Source: virt-v2v parse_vmx.ml, which reads the same.
var vmxEscape = strings.NewReplacer("|", "|7C", `"`, "|22", "\n", "|0A")

// vmxUUID spells a UUID as VMX files do: "56 4d 7c 1e 5f 0b 4a 1c-9d 3a …".
func vmxUUID(uuid string) string {
	digits := strings.ReplaceAll(uuid, "-", "")
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		switch i {
		case 0:
		case 16:
			b.WriteByte('-')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String()
}
