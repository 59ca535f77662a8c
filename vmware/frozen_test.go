package vmware

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

func TestASnapshotIsQuiescedIfTheGuestCan(t *testing.T) {
	for name, c := range map[string]struct {
		fault    types.BaseMethodFault
		task     bool
		quiesced bool
	}{
		"it can":                       {nil, false, true},
		"an application does not":      {&types.ApplicationQuiesceFault{}, true, false},
		"a file system does not":       {&types.FilesystemQuiesceFault{}, true, false},
		"the call says so, not a task": {&types.ApplicationQuiesceFault{}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, vmwaretest.Options{})
			h := r.hand(t, new(pages))
			if c.fault != nil {
				r.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: c.fault, Task: c.task, When: vmwaretest.Quiesced})
			}
			for _, h := range []*Hand{h, r.hand(t, new(pages))} { // the second finds it
				s, err := h.Snapshot(context.Background(), r.source.Ref.Value, SnapshotPolicy{Label: "read", Quiesce: true, Spare: 1})
				if err != nil || s.Quiesced != c.quiesced || (s.Why == "") != c.quiesced {
					t.Fatalf("Snapshot = %+v, %v", s, err)
				}
			}
			for snap := range branches(r.vm(r.source).Snapshot) {
				if snap.Quiesced != c.quiesced || !strings.Contains(snap.Description, migration) || !strings.Contains(snap.Name, migration) {
					t.Errorf("the server has %+v", snap)
				}
			}
		})
	}
}

func TestOurSnapshotIsFoundAgainAndForeignOnesStay(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	ctx := context.Background()
	h := r.hand(t, new(pages))
	vm := r.source.Ref.Value
	r.Snapshot(t, r.source.Ref, "before the update")
	first, err := h.Snapshot(ctx, vm, SnapshotPolicy{Label: "read", Spare: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.Snapshot(t, r.source.Ref, mark("another", "read"))
	again, err := r.hand(t, new(pages)).Snapshot(ctx, vm, SnapshotPolicy{Label: "read", Spare: 1}) // its ledger was lost
	if err != nil || again.Snapshot != first.Snapshot {
		t.Fatalf("Snapshot = %+v, %v, want %s again", again, err, first.Snapshot)
	}
	if err := h.unfrozen(ctx); err != nil {
		t.Fatal(err)
	}
	var left []string
	for s := range branches(r.vm(r.source).Snapshot) {
		left = append(left, s.Name)
	}
	if want := []string{"before the update", mark("another", "read")}; !slices.Equal(left, want) {
		t.Errorf("%q are left, want %q", left, want)
	}
}

func TestASnapshotIsRefusedWithoutRoom(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	ledger := new(pages)
	h := r.hand(t, ledger)
	r.Snapshot(t, r.source.Ref, "one")
	for want, policy := range map[error]SnapshotPolicy{ErrTooMany: {Most: 1, Spare: 1}, ErrSpace: {Spare: 1 << 60}} {
		if _, err := h.Snapshot(context.Background(), r.source.Ref.Value, policy); !errors.Is(err, want) || len(ledger.list) > 0 {
			t.Errorf("Snapshot(%+v) = %v, %q noted", policy, err, ledger.states())
		}
	}
}

func TestARenamedSnapshotIsLeft(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	ctx := context.Background()
	ledger := new(pages)
	h := r.hand(t, ledger)
	if _, err := h.Snapshot(ctx, r.source.Ref.Value, SnapshotPolicy{Spare: 1}); err != nil {
		t.Fatal(err)
	}
	r.vm(r.source).Snapshot.RootSnapshotList[0].Name = "keep"
	if err := h.Restore(ctx); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), `"keep"`) {
		t.Errorf("Restore = %v", err)
	}
	if err := h.Restore(ctx); err != nil || !slices.Equal(ledger.states(), []string{"snapshot left"}) {
		t.Errorf("Restore again = %v, %q", err, ledger.states())
	}
}

// The rule that docs/vsphere.md tells: a twentieth of the disks, 1 GiB at least, and of a VM
// that is off 1 GiB.
func TestSoMuchMustBeFreeForASnapshot(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		on         bool
		size, want int64
		says       string
	}{
		{true, 40 << 30, 2048 * mib, "2047 MiB of 2048 MiB that a running guest may write meanwhile, which is a twentieth of its disks there and 1024 MiB at least: free some, move the VM, or shut it down first"},
		{true, 1 << 30, 1024 * mib, "1023 MiB of 1024 MiB that a running guest may write meanwhile"},
		{false, 40 << 30, 1024 * mib, "1023 MiB of 1024 MiB that a snapshot may need: free some or move the VM"},
	} {
		r := newRig(t, vmwaretest.Options{})
		vm := r.AddVM(t, vmwaretest.VM{Name: "db01", On: c.on, Disks: []vmwaretest.Disk{{Size: c.size}}})
		ds := r.Model.Map().Get(r.vm(vm).Datastore[0]).(*simulator.Datastore)
		h := r.hand(t, new(pages))
		ds.Summary.FreeSpace = c.want - 1
		_, err := h.Snapshot(t.Context(), vm.Ref.Value, SnapshotPolicy{})
		wantError(t, err, ErrSpace, c.says)
		ds.Summary.FreeSpace = c.want
		if _, err := h.Snapshot(t.Context(), vm.Ref.Value, SnapshotPolicy{}); err != nil {
			t.Error(err)
		}
	}
}

func TestOthersTasksAreWaitedForWithPatience(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	h := r.hand(t, new(pages))
	r.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: &types.TaskInProgress{}, Times: 3})
	if _, err := h.Snapshot(context.Background(), r.source.Ref.Value, SnapshotPolicy{Label: "a", Spare: 1}); err != nil {
		t.Error("three times busy:", err)
	}
	h.Patience = 1
	r.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: &types.TaskInProgress{}, Times: 1000})
	if _, err := h.Snapshot(context.Background(), r.source.Ref.Value, SnapshotPolicy{Label: "b", Spare: 1}); !errors.Is(err, ErrBusy) {
		t.Errorf("always busy: %v, want %v", err, ErrBusy)
	}
}

func TestAMissingPrivilegeIsNamed(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	r.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: &types.NoPermission{Object: &r.source.Ref, PrivilegeId: "VirtualMachine.State.CreateSnapshot"}})
	_, err := r.hand(t, new(pages)).Snapshot(context.Background(), r.source.Ref.Value, SnapshotPolicy{Spare: 1})
	if !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "VirtualMachine.State.CreateSnapshot on "+r.source.Ref.String()) {
		t.Errorf("Snapshot = %v", err)
	}
}

func TestNothingIsChangedThatCannotBeNoted(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	before := r.inventory(t)
	full := errors.New("no space left on device")
	h := r.hand(t, &pages{fail: full})
	ctx, vm := context.Background(), r.source.Ref.Value
	_, snapshot := h.Snapshot(ctx, vm, SnapshotPolicy{Spare: 1})
	for what, err := range map[string]error{"Snapshot": snapshot, "SetCBT": h.SetCBT(ctx, vm, true), "Shutdown": h.Shutdown(ctx, vm, PowerPolicy{})} {
		if !errors.Is(err, full) {
			t.Errorf("%s = %v, want %v", what, err, full)
		}
	}
	r.same(t, before, "nothing noted")
}

// A removal of which the server says that a disk was locked has taken the snapshot away
// all the same, and left its disks.
func TestWhatARemovalLeavesIsMerged(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	before := r.inventory(t)
	ctx := context.Background()
	ledger := new(pages)
	h := r.hand(t, ledger)
	s, err := h.Snapshot(ctx, r.source.Ref.Value, SnapshotPolicy{Spare: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.attach(h, s.Snapshot, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.unfrozen(ctx); !errors.Is(err, ErrBusy) {
		t.Fatalf("to remove it while a clone stands on it = %v, want %v", err, ErrBusy)
	}
	if err := h.Restore(ctx); err != nil {
		t.Fatalf("Restore = %v, %q", err, ledger.states())
	}
	r.same(t, before, "merged")
}

// unfrozen takes the snapshots back, and nothing else.
func (h *Hand) unfrozen(ctx context.Context) error {
	return h.takeBack(ctx, func(t Trace) bool { return t.Kind == KindSnapshot })
}
