package serve

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/vmware/vmwaretest"
)

const (
	on  = types.VirtualMachinePowerStatePoweredOn
	off = types.VirtualMachinePowerStatePoweredOff
)

// power is whether a VM runs, and how many snapshots it has.
func (v *site) power(t *testing.T, vm vmwaretest.VM) (types.VirtualMachinePowerState, int) {
	t.Helper()
	var m mo.VirtualMachine
	if err := object.NewVirtualMachine(v.Client, vm.Ref).Properties(t.Context(), vm.Ref, []string{"runtime.powerState", "snapshot"}, &m); err != nil {
		t.Fatal(err)
	}
	if m.Snapshot == nil {
		return m.Runtime.PowerState, 0
	}
	return m.Runtime.PowerState, len(m.Snapshot.RootSnapshotList)
}

// wants holds a VM to its power, and the server to nothing that was left there.
func (v *site) wants(t *testing.T, vm vmwaretest.VM, power types.VirtualMachinePowerState) {
	t.Helper()
	if is, snapshots := v.power(t, vm); is != power || snapshots != 0 {
		t.Errorf("the VM is %s with %d snapshots, want %s and none", is, snapshots, power)
	}
}

// guest adds a VM that runs, with a small guest on its disk.
func (v *site) guest(t testing.TB, name string) vmwaretest.VM {
	t.Helper()
	guesttest.Slow(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon"})...)
	raw := filepath.Join(t.TempDir(), "small.raw")
	if err := guesttest.Small(t.Context(), raw, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	return v.AddVM(t, vmwaretest.VM{Name: name, On: true, CBT: true, Disks: []vmwaretest.Disk{{Raw: raw}}, NICs: []vmwaretest.NIC{{MAC: "00:50:56:01:02:03"}},
		Also: func(m *mo.VirtualMachine) { m.Guest.ToolsRunningStatus = "guestToolsRunning" }})
}

// spec asks for the migration of a VM, with more of it.
func (v *site) spec(vm vmwaretest.VM, more string) string {
	return fmt.Sprintf(`{"source":{"vsphere":{"server":"vc1","vm":%q}},"target":{"storage":"to","cpus":3,"networks":{"*":"bridge:br7"}},"engine":"direct","test":{"skip":"not part of this"}%s}`, vm.Name, more)
}

// TestAVMIsMigratedThroughTheAPI also looks at it first, and verifies it against the VM.
func TestAVMIsMigratedThroughTheAPI(t *testing.T) {
	v := newSite(t)
	vm := v.guest(t, "web01.prod")
	a := started(t, t.TempDir(), v.settings)
	v.knows(t, a, v.Password)
	a.begin(t, "look", `{"mode":"plan","source":{"vsphere":{"server":"vc1","vm":"web01.prod"}},"engine":"direct"}`)
	if m := a.settles(t, "look"); m.State != model.StateDone || m.Verdict != model.VerdictRead || m.Plan.Changes == 0 {
		t.Errorf("its plan is %+v", m)
	}
	v.wants(t, vm, on)
	if left, err := os.ReadDir(filepath.Join(a.folder, "state", "looks")); err != nil || len(left) != 0 {
		t.Errorf("the look has left %v, %v", left, err)
	}
	a.begin(t, "moved", v.spec(vm, ""))
	m := a.settles(t, "moved")
	if m.State != model.StateDone || m.Verdict != model.VerdictUntested || m.Name != "web01.prod" || m.Folder.Path != "web01.prod" {
		t.Fatalf("it ended as %+v", m)
	}
	v.wants(t, vm, off)
	domain, err := os.ReadFile(filepath.Join(a.folder, "to", "web01.prod", "web01.prod.xml"))
	if err != nil || !strings.Contains(string(domain), "br7") || !strings.Contains(string(domain), ">3</vcpu>") {
		t.Errorf("its domain is %s, %v", domain, err)
	}
	if status := a.post(t, "/migrations/moved/verify", `{"againstSource":true}`); status != 202 {
		t.Fatalf("verify is answered with %d", status)
	}
	m = a.settles(t, "moved")
	if last := m.Operations[len(m.Operations)-1]; m.State != model.StateDone || len(last.Verified) != 2 {
		t.Errorf("verified, it is %+v", m)
	}
	v.wants(t, vm, off)
	a.stop(t)
	if n := len(v.Sessions()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestAHeldPlanLeavesTheVMRunning: what was approved is what is applied to the VM at rest.
func TestAHeldPlanLeavesTheVMRunning(t *testing.T) {
	v := newSite(t)
	vm := v.guest(t, "web01")
	a := started(t, t.TempDir(), v.settings)
	v.knows(t, a, v.Password)
	a.begin(t, "held", v.spec(vm, `,"approval":"required"`))
	m := a.settles(t, "held")
	if m.State != model.StatePlanned || m.Plan.Changes == 0 {
		t.Fatalf("it is %+v", m)
	}
	v.wants(t, vm, on)
	if n := v.Calls()["ShutdownGuest"] + v.Calls()["PowerOffVM_Task"]; n != 0 {
		t.Errorf("it was shut down %d times for its plan", n)
	}
	if status := a.post(t, "/migrations/held/approve", fmt.Sprintf(`{"digest":%q}`, m.Plan.Digest)); status != 202 {
		t.Fatalf("approval is answered with %d", status)
	}
	if m = a.settles(t, "held"); m.State != model.StateDone {
		t.Errorf("approved, it ended as %+v", m)
	}
	v.wants(t, vm, off)
}

// TestGivingUpGivesTheVMBack: one that was shut down runs again, and its folder is gone.
func TestGivingUpGivesTheVMBack(t *testing.T) {
	v := newSite(t)
	vm := v.guest(t, "web01")
	a := started(t, t.TempDir(), v.settings)
	v.knows(t, a, v.Password)
	a.begin(t, "given-up", v.spec(vm, `,"limits":["100K"]`))
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if m := asked[model.Migration](t, a, "/migrations/given-up", 200); len(m.Stages) > 5 && m.Stages[5].State == model.StageStateRunning {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("it does not get to CONVERT")
		}
	}
	v.wants(t, vm, off)
	if status := a.post(t, "/migrations/given-up/cancel", ""); status != 202 {
		t.Fatalf("it is answered with %d", status)
	}
	for limit := time.Now().Add(time.Minute); asked[model.Migration](t, a, "/migrations/given-up", 200).State != model.StateCancelled; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("it is %+v", asked[model.Migration](t, a, "/migrations/given-up", 200))
		}
	}
	v.wants(t, vm, on)
	if left, err := os.ReadDir(filepath.Join(a.folder, "to")); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestAPlanThatComesOutOtherwiseIsHeldAgain: what the guest has changed since its plan was
// approved is reviewed too, and the VM runs meanwhile.
func TestAPlanThatComesOutOtherwiseIsHeldAgain(t *testing.T) {
	v := newSite(t)
	vm := v.guest(t, "web01")
	a := started(t, t.TempDir(), v.settings)
	v.knows(t, a, v.Password)
	a.begin(t, "held", v.spec(vm, `,"approval":"required"`))
	first := a.settles(t, "held")
	disk, err := os.ReadFile(vm.Disks[0].Raw)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(disk, []byte("made by the installer"))
	if at < 0 {
		t.Fatal("the guest's fstab is not found on its disk")
	}
	v.GuestWrite(t, vm.Ref, vm.Disks[0].Key, int64(at), []byte("made by an installer"))
	approve := func(m model.Migration) model.Migration {
		t.Helper()
		if status := a.post(t, "/migrations/held/approve", fmt.Sprintf(`{"digest":%q}`, m.Plan.Digest)); status != 202 {
			t.Fatalf("approval is answered with %d", status)
		}
		return a.settles(t, "held")
	}
	second := approve(first)
	if second.State != model.StatePlanned || second.Plan.Digest == first.Plan.Digest || second.Plan.ApprovedBy != "" {
		t.Fatalf("approved, it is %+v", second)
	}
	v.wants(t, vm, on)
	if m := approve(second); m.State != model.StateDone {
		t.Errorf("approved once more, it ended as %+v", m)
	}
	v.wants(t, vm, off)
}
