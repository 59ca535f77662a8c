package guests

import (
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// vmx is the VM's settings file as ESXi 7 writes one. The cards' addresses are
// static ones, which virt-v2v loses (it reads generated addresses only); the PCI
// slots are those that VMware gives to the first pvscsi and to its vmxnet3s.
func (r Recipe) vmx() string {
	lines := slices.Concat([][2]string{
		{".encoding", "UTF-8"},
		{"config.version", "8"},
		{"virtualHW.version", "19"},
		{"displayName", r.Name},
		{"annotation", r.Description},
		{"guestOS", "debian12-64"}, // of a Debian 13 too: there is none newer
	}, firmwareLines(r), [][2]string{
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
	}, buses[r.Bus].settings, diskLines(r), nicLines(r), [][2]string{
		{"floppy0.present", "FALSE"},
		{"svga.present", "TRUE"},
		{"vmci0.present", "TRUE"},
		{"tools.syncTime", "FALSE"},
		{"powerType.powerOff", "soft"},
	})
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&b, "%s = \"%s\"\n", line[0], vmxEscape.Replace(line[1]))
	}
	return b.String()
}

// firmwareLines name the file of a UEFI's variables, which stays where it is: no
// other firmware reads VMware's.
func firmwareLines(r Recipe) [][2]string {
	if r.Firmware == machine.BIOS {
		return [][2]string{{"firmware", "bios"}}
	}
	return [][2]string{
		{"firmware", "efi"},
		{"uefi.secureBoot.enabled", "FALSE"},
		{"nvram", r.Name + ".nvram"},
	}
}

// diskFile is the name of a disk's file, as ESXi gives it.
func (r Recipe) diskFile(i int) string {
	if i == 0 {
		return r.Name + ".vmdk"
	}
	return fmt.Sprintf("%s_%d.vmdk", r.Name, i)
}

func diskLines(r Recipe) [][2]string {
	var lines [][2]string
	for i := range r.Disks {
		disk := fmt.Sprintf("%s:%d.", buses[r.Bus].place, i)
		lines = append(lines, [2]string{disk + "present", "TRUE"})
		if r.Bus == PVSCSI {
			lines = append(lines, [2]string{disk + "deviceType", "scsi-hardDisk"})
		}
		lines = append(lines, [2]string{disk + "fileName", r.diskFile(i)})
	}
	return lines
}

func nicLines(r Recipe) [][2]string {
	var lines [][2]string
	for i, n := range r.NICs {
		card := fmt.Sprintf("ethernet%d.", i)
		lines = append(lines,
			[2]string{card + "present", "TRUE"},
			[2]string{card + "virtualDev", "vmxnet3"},
			[2]string{card + "pciSlotNumber", fmt.Sprint(slot(i))},
			[2]string{card + "networkName", "VM Network"},
			[2]string{card + "addressType", "static"},
			[2]string{card + "address", n.MAC})
	}
	return lines
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
