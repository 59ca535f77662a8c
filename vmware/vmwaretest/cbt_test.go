package vmwaretest_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// changed asks page by page.
func changed(t *testing.T, c *govmomi.Client, v vmwaretest.VM, snapshot types.ManagedObjectReference, changeID string) (all []types.DiskChangeExtent, pages int) {
	t.Helper()
	for off := int64(0); off < v.Disks[0].Size; pages++ {
		r, err := ask(c, v, snapshot, changeID, off)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r.ChangedArea...)
		off = r.StartOffset + r.Length
	}
	return all, pages
}

func ask(c *govmomi.Client, v vmwaretest.VM, snapshot types.ManagedObjectReference, changeID string, off int64) (types.DiskChangeInfo, error) {
	r, err := methods.QueryChangedDiskAreas(context.Background(), c, &types.QueryChangedDiskAreas{
		This: v.Ref, Snapshot: &snapshot, DeviceKey: v.Disks[0].Key, StartOffset: off, ChangeId: changeID})
	if err != nil {
		return types.DiskChangeInfo{}, err
	}
	return r.Returnval, nil
}

func TestChangeIDsTellWhatTheGuestWrote(t *testing.T) {
	for _, maxExtents := range []int{0, 1} {
		s, c := started(t, vmwaretest.Options{MaxExtents: maxExtents})
		raw, _ := rawDisk(t, 8<<20) // 2 MiB of data
		v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, CBT: true, Disks: []vmwaretest.Disk{{Raw: raw}}})
		key := v.Disks[0].Key
		s.GuestWrite(t, v.Ref, key, 4<<20, []byte("x"))
		first := snapshot(t, c, v.Ref, "one")
		id := diskIn(t, c, first, key).ChangeId
		want := []types.DiskChangeExtent{{Start: 0, Length: 2 << 20}, {Start: 4 << 20, Length: 64 << 10}}
		if got, _ := changed(t, c, v, first, "*"); !slices.Equal(got, want) {
			t.Errorf("allocated are %v, want %v", got, want)
		}
		s.GuestWrite(t, v.Ref, key, 3<<20, []byte("y"))
		remove(t, c, first, false)
		s.GuestWrite(t, v.Ref, key, 5<<20-1, []byte("zz"))
		second := snapshot(t, c, v.Ref, "two")
		s.GuestWrite(t, v.Ref, key, 7<<20, []byte("too late"))
		want = []types.DiskChangeExtent{{Start: 3 << 20, Length: 64 << 10}, {Start: 5<<20 - 64<<10, Length: 128 << 10}}
		got, pages := changed(t, c, v, second, id)
		if !slices.Equal(got, want) {
			t.Errorf("changed since %s are %v, want %v", id, got, want)
		}
		if maxExtents == 1 && pages != 2 {
			t.Errorf("%d pages of one extent each", pages)
		}
		if next := diskIn(t, c, second, key).ChangeId; next == id || !strings.Contains(id, " ") {
			t.Errorf("the change IDs are %q and %q", id, next)
		}
	}
}

func TestAChangeIDFromBeforeAResetIsRefused(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, CBT: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	first := snapshot(t, c, v.Ref, "one")
	id := diskIn(t, c, first, v.Disks[0].Key).ChangeId
	s.ResetCBT(v.Ref)
	second := snapshot(t, c, v.Ref, "two")
	if _, err := ask(c, v, second, id, 0); !fault.Is(err, &types.FileFault{}) {
		t.Errorf("after a reset: %v", err)
	}
	if _, err := ask(c, v, second, "nonsense", 0); !fault.Is(err, &types.FileFault{}) {
		t.Errorf("with nonsense: %v", err)
	}
}

func TestChangesAreTrackedFromTheFirstSnapshotAfterTheyAreAskedFor(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	before := snapshot(t, c, v.Ref, "before")
	if id := diskIn(t, c, before, v.Disks[0].Key).ChangeId; id != "" {
		t.Errorf("there is a change ID %q although nothing is tracked", id)
	}
	if _, err := ask(c, v, before, "*", 0); !fault.Is(err, &types.FileFault{}) {
		t.Errorf("asked although nothing is tracked: %v", err)
	}
	remove(t, c, before, false)
	on := true
	task, err := object.NewVirtualMachine(c.Client, v.Ref).Reconfigure(context.Background(), types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &on})
	wait(t, task, err)
	after := snapshot(t, c, v.Ref, "after")
	if id := diskIn(t, c, after, v.Disks[0].Key).ChangeId; id == "" {
		t.Error("there is no change ID although changes are tracked")
	}
}
