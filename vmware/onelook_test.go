package vmware

import (
	"slices"
	"testing"

	"hyper2kvm/vmware/vmwaretest"
)

// TestOneLookAtTheInventoryServes: it has ten thousand VMs somewhere, and each look at
// all of them takes seconds.
func TestOneLookAtTheInventoryServes(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	for _, name := range []string{"web01", "db01"} {
		s.AddVM(t, vmwaretest.VM{Name: name, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	}
	twin := s.AddVM(t, vmwaretest.VM{Name: "web01", Folder: "Lab", Directory: "web01_1", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	session, err := Connect(t.Context(), Config{Server: s.URL.Host, User: s.User, Password: Secret(s.Password), Thumbprint: s.ThumbprintSHA256})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(t.Context())
	duplicate := func(list []Concern) bool {
		return slices.ContainsFunc(list, func(c Concern) bool { return c.Code == "vsphere/duplicate-name" })
	}
	looks := func() int { return s.Calls()["CreateContainerView"] }

	before := looks()
	rows := 0
	for row, err := range session.Rows(t.Context(), Selection{VMs: []string{"web*"}}) {
		if err != nil || !duplicate(row.Concerns) {
			t.Errorf("%s: %v, %+v", row.Path, err, row.Concerns)
		}
		rows++
	}
	if n := looks() - before; rows != 2 || n != 1 {
		t.Errorf("%d rows took %d looks", rows, n)
	}
	before = looks()
	vm, around, err := session.Find(t.Context(), "/DC0/vm/Lab/web01")
	if n := looks() - before; err != nil || vm.Ref != twin.Ref.Value || !duplicate(Concerns(vm, around)) || n != 1 {
		t.Errorf("%s was found with %d looks, %v", vm.Path, n, err)
	}
	before = looks()
	if vm, err := session.Known(t.Context(), twin.Ref.Value); err != nil || vm.Path != "/DC0/vm/Lab/web01" || len(vm.Disks) != 1 || looks() != before {
		t.Errorf("known is %+v, %v, with %d looks", vm, err, looks()-before)
	}
	for row, err := range session.Rows(t.Context(), Selection{Refs: []string{twin.Ref.Value}}) {
		if err != nil || row.Ref != twin.Ref.Value || !duplicate(row.Concerns) {
			t.Errorf("by its MoRef: %+v, %v", row, err)
		}
	}
}
