package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/machine"
)

const webVMX = `.encoding = "UTF-8"
displayName = "web |22blue|22"
firmware = "efi"
uefi.secureBoot.enabled = "TRUE"
numvcpus = "4"
cpuid.coresPerSocket = "2"
memSize = "8192"
guestOS = "debian12-64"
uuid.bios = "56 4d a8 c8 00 11 22 33-44 55 66 77 88 99 aa bb"
scsi0.present = "TRUE"
scsi0.virtualDev = "pvscsi"
SCSI0:0.fileName = "web.vmdk"
scsi0:0.present = "TRUE"
scsi0:10.fileName = "logs.vmdk"
scsi0:2.fileName = "/vmfs/volumes/ds1/data.vmdk"
scsi0:3.fileName = "gone.vmdk"
scsi0:3.present = "FALSE"
sata0:0.fileName = "installer.iso"
sata0:0.deviceType = "cdrom-image"
nvme0:0.fileName = "fast.vmdk"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0C:29:99:aa:bb"
ethernet0.pciSlotNumber = "192"
ethernet0.networkName = "VM Network"
ethernet1.present = "TRUE"
ethernet1.addressType = "static"
ethernet1.address = "00:50:56:01:02:03"
ethernet2.present = "FALSE"
`

func TestVMXGivesTheMachinesRecord(t *testing.T) {
	v, err := ParseVMX(strings.NewReader(webVMX))
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.machine("/vms/web/web.vmx")
	if err != nil {
		t.Fatal(err)
	}
	want := machine.Machine{
		Name: `web "blue"`, Source: "/vms/web/web.vmx", Firmware: machine.UEFI, SecureBoot: true,
		CPUs: 4, CoresPerSocket: 2, Memory: 8 << 30, UUID: "564da8c8-0011-2233-4455-66778899aabb", GuestID: "debian12-64",
		Disks: []machine.Disk{
			{Path: "/vms/web/web.vmdk", Bus: "scsi", Model: "pvscsi"},
			{Path: "/vmfs/volumes/ds1/data.vmdk", Bus: "scsi", Unit: 2, Model: "pvscsi"},
			{Path: "/vms/web/logs.vmdk", Bus: "scsi", Unit: 10, Model: "pvscsi"},
			{Path: "/vms/web/fast.vmdk", Bus: "nvme"},
		},
		NICs: []machine.NIC{
			{MAC: "00:0c:29:99:aa:bb", Network: "VM Network", Model: "vmxnet3", Slot: 192},
			{MAC: "00:50:56:01:02:03"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("machine (-want +got):\n%s", d)
	}
}

func TestVMXThatIsNoneIsRefused(t *testing.T) {
	for _, text := range []string{"KDMV\x01\x02", "memSize", strings.Repeat("x", 100_000)} {
		if v, err := ParseVMX(strings.NewReader(text)); err == nil {
			t.Errorf("ParseVMX(%.10q) = %v, want an error", text, v)
		}
	}
	v, err := ParseVMX(strings.NewReader(`memSize = "lots"`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.machine("/a.vmx"); err == nil || !strings.Contains(err.Error(), `memsize = "lots"`) {
		t.Errorf("machine with memSize lots: %v", err)
	}
}

func FuzzParseVMX(f *testing.F) {
	f.Add(webVMX)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVMX(strings.NewReader(text))
		if err != nil {
			return
		}
		if _, err := v.machine("/a.vmx"); err != nil {
			t.Skip() // refused with a reason
		}
	})
}
