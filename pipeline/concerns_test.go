package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

// record is a machine with all that VMware's record may warn of, among what is
// as usual.
var record = machine.Machine{
	Name: "db01", Source: "/vms/db01.vmx", TPM: true, LeftBehind: []string{"pcipassthru0", "scsi1:1"},
	Disks: []machine.Disk{
		{Path: "/vms/db01-000001.vmdk", Format: "vmdk", Kind: "seSparse", Size: 8 << 30, Bus: "scsi", Model: "pvscsi", Parents: []string{"/vms/db01.vmdk"}, Dirty: true},
		{Path: "/vms/rac.vmdk", Format: "vmdk", Kind: "vmfs", Size: 1 << 30, Bus: "scsi", Controller: 1, Unit: 2, Mode: "independent-persistent", Shared: "scsi1.sharedbus = virtual"},
		{Path: "/vms/scratch.raw", Format: "raw", Size: 1 << 20, Mode: "independent-nonpersistent"},
	},
	NICs: []machine.NIC{{MAC: "00:50:56:00:00:01", Model: "vmxnet3", Network: "VM Network"}, {MAC: "00:50:56:00:00:02", Disconnected: true, Connection: "nat"}},
}

func TestTheRecordsConcernsAreNamed(t *testing.T) {
	var got []string
	for _, c := range sourceConcerns(record) {
		got = append(got, fmt.Sprintf("%s %s: %s", c.Level, c.Code, c.Text))
	}
	want := []string{
		"warning source/disk-not-closed: VMware did not close disk 0 (scsi0:0): the machine ran when it was copied, or crashed",
		"blocker source/shared-disk: other machines may write to disk 1 (scsi1:2) (scsi1.sharedbus = virtual): a copy is no part of their cluster",
		"warning source/disk-mode: what is written to disk 2 (/vms/scratch.raw) was not kept on VMware (mode independent-nonpersistent), and is on KVM",
		"warning source/nic-disconnected: network card 1 (00:50:56:00:00:02) was not connected on VMware, and is on KVM",
		"warning source/tpm: the machine has a virtual TPM, whose keys stay in VMware",
		"warning source/left-behind: devices of the VMware host stay behind: pcipassthru0, scsi1:1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if c := sourceConcerns(machine.Machine{Disks: []machine.Disk{{Kind: "vmfs"}}, NICs: []machine.NIC{{}}}); len(c) > 0 {
		t.Errorf("a plain machine has the concerns %+v", c)
	}
}

func TestFactsTellWhereTheDisksAre(t *testing.T) {
	text := FactsText(inspect.Facts{}, record)
	for _, want := range []string{
		"disk        scsi0:0 pvscsi, 8192 MiB, seSparse on /vms/db01.vmdk  [/vms/db01-000001.vmdk]\n",
		"disk        scsi1:2, 1024 MiB, vmfs  [/vms/rac.vmdk]\n",
		"disk        1 MiB, raw  [/vms/scratch.raw]\n",
		"nic         00:50:56:00:00:01 vmxnet3 VM Network\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("FactsText lacks %q:\n%s", want, text)
		}
	}
}
