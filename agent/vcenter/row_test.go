package vcenter

import (
	"bytes"
	"testing"

	"hyper2kvm/vmware"
)

// TestARowOutlivesTheAPI with all that a table has columns for.
func TestARowOutlivesTheAPI(t *testing.T) {
	row := vmware.Row{VM: vmware.VM{Ref: "vm-42", Name: "web01", Path: "/DC0/vm/web01", Datacenter: "/DC0", Cluster: "C0", Host: "esx1", Power: vmware.On, Template: true,
		InstanceUUID: "50", BIOSUUID: "42", GuestID: "rhel9_64Guest", GuestName: "RHEL 9", HostName: "web01.example.com", Addresses: []string{"192.0.2.7", "2001:db8::7"},
		Tools: "guestToolsRunning", Hardware: "vmx-19", Firmware: "efi", SecureBoot: true, TPM: true, CPUs: 3, Memory: 1 << 30, Used: 5 << 30, CBT: true,
		Disks:     []vmware.Disk{{Label: "Hard disk 1", Size: 3 << 30, Datastore: "ds1", Kind: "flat", Thin: true}, {Label: "Hard disk 2", Size: 1 << 30, Datastore: "ds2"}},
		NICs:      []vmware.NIC{{Label: "Network adapter 1", MAC: "00:50:56:00:00:01", Network: "VM Network", Model: "vmxnet3"}},
		Snapshots: []vmware.Snapshot{{Children: []vmware.Snapshot{{}, {}}}}, Tags: []vmware.Tag{{Category: "owner", Name: "a/b"}}, Unknown: []string{"annotation"}},
		Concerns: []vmware.Concern{{Level: vmware.Blocker, Code: "vsphere/rdm", Text: "it is", Try: "this"}, {Level: vmware.Warning, Code: "vsphere/usb"}}}
	table := func(r vmware.Row) string {
		var b bytes.Buffer
		if err := vmware.WriteCSV(&b, func(yield func(vmware.Row, error) bool) { yield(r, nil) }); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want, got := table(row), table(Row(told(row)))
	if got != want {
		t.Errorf("it is\n%s\nand was\n%s", got, want)
	}
	for cell := range bytes.SplitSeq(bytes.Split([]byte(want), []byte("\n"))[1], []byte(",")) {
		if len(cell) == 0 || string(cell) == "false" || string(cell) == "0" {
			t.Errorf("a column has nothing that could be lost:\n%s", want)
		}
	}
}
