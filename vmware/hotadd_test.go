package vmware

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// hotaddRig has a snapshot of the source, of our own.
func hotaddRig(t *testing.T) (*rig, *Hand, *pages, string) {
	t.Helper()
	r := newRig(t, vmwaretest.Options{})
	ledger := new(pages)
	h := r.hand(t, ledger)
	s, err := h.Snapshot(context.Background(), r.source.Ref.Value, SnapshotPolicy{Spare: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r, h, ledger, s.Snapshot
}

func (r *rig) attach(h *Hand, snapshot string, disk int) (Attached, error) {
	return h.Attach(context.Background(), r.own.Ref.Value, r.source.Ref.Value, snapshot, r.source.Disks[disk].Key)
}

// clones are the VMs that a migration made.
func (r *rig) clones() (list []*simulator.VirtualMachine) {
	for _, e := range r.Model.Map().All("VirtualMachine") {
		if v := e.(*simulator.VirtualMachine); strings.HasPrefix(v.Name, "hyper2kvm ") {
			list = append(list, v)
		}
	}
	return list
}

func TestASnapshotsDisksAreAttachedAndDetached(t *testing.T) {
	r, h, _, snapshot := hotaddRig(t)
	ctx := context.Background()
	r.GuestWrite(t, r.source.Ref, r.source.Disks[1].Key, 4096, []byte("after the snapshot"))
	var all []Attached
	for disk := range 2 {
		a, err := r.attach(h, snapshot, disk)
		if err != nil {
			t.Fatal(err)
		}
		if a.Warning == "" || a.UUID == "" || a.Unit == ownUnit {
			t.Errorf("disk %d is attached as %+v", disk, a)
		}
		all = append(all, a)
	}
	if n := len(r.clones()); n != 1 {
		t.Fatalf("there are %d clones, want one for both disks", n)
	}
	r.checkAttached(t, all)
	if err := h.Detach(ctx, all[0]); err != nil || len(r.clones()) != 1 {
		t.Fatalf("Detach = %v, and there are %d clones while a disk is attached", err, len(r.clones()))
	}
	if err := h.Detach(ctx, all[1]); err != nil || len(r.clones()) != 0 {
		t.Fatalf("Detach = %v, and there are %d clones", err, len(r.clones()))
	}
	if err := h.Detach(ctx, all[1]); err != nil {
		t.Error("again:", err)
	}
}

// checkAttached looks at what the server made of it.
func (r *rig) checkAttached(t *testing.T, all []Attached) {
	t.Helper()
	clone := r.clones()[0]
	for _, d := range clone.Config.Hardware.Device {
		if _, ok := d.(types.BaseVirtualEthernetCard); ok {
			t.Error("the clone has a NIC")
		}
	}
	if clone.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff || !strings.Contains(clone.Config.Annotation, migration) {
		t.Errorf("the clone is %s, annotated %q", clone.Runtime.PowerState, clone.Config.Annotation)
	}
	for _, a := range all {
		d := diskWith(r.vm(r.own).VirtualMachine, a.File)
		if d == nil {
			t.Fatalf("our own VM has no disk %s", a.File)
		}
		if b := backingOf(d.Backing); b.mode != string(types.VirtualDiskModeIndependent_nonpersistent) || b.uuid != a.UUID {
			t.Errorf("%s is attached %s with UUID %s, want %s", a.File, b.mode, b.uuid, a.UUID)
		}
	}
	frozen, err := os.ReadFile(r.RawOf(t, all[1].File))
	if err != nil || strings.Contains(string(frozen), "after") {
		t.Errorf("what is attached is not as in the snapshot: %v", err)
	}
}

// Each migration has a hand of its own, and all have one appliance.
func TestMigrationsShareOurOwnVM(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	const migrations = 6
	places, errs := make([]slot, migrations), make([]error, migrations)
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range migrations {
		h := r.hand(t, new(pages))
		h.Migration = fmt.Sprint("m", i)
		s, err := h.Snapshot(context.Background(), r.source.Ref.Value, SnapshotPolicy{Spare: 1})
		if err == nil {
			_, err = r.attach(h, s.Snapshot, 0) // which makes the clone
		}
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			<-start
			a, err := r.attach(h, s.Snapshot, 1)
			places[i], errs[i] = slot{a.Controller, a.Unit}, err
		})
	}
	close(start)
	all.Wait()
	slices.SortFunc(places, func(a, b slot) int { return int(a.unit - b.unit) })
	if err := errors.Join(errs...); err != nil || len(slices.Compact(places)) != migrations {
		t.Errorf("they are at %v: %v", places, err)
	}
}

func TestOurOwnVMMustBeFitForOthersDisks(t *testing.T) {
	for name, spoil := range map[string]func(r *rig, v *simulator.VirtualMachine){
		"tracks changes":   func(_ *rig, v *simulator.VirtualMachine) { v.Config.ChangeTrackingEnabled = types.NewBool(true) },
		"shows no serials": func(_ *rig, v *simulator.VirtualMachine) { v.Config.Flags.DiskUuidEnabled = nil },
		"in no folder":     func(_ *rig, v *simulator.VirtualMachine) { v.ResourcePool = nil },
		"host sees no datastore": func(r *rig, v *simulator.VirtualMachine) {
			r.Model.Map().Get(*v.Runtime.Host).(*simulator.HostSystem).Datastore = nil
		},
		"host in maintenance": func(r *rig, v *simulator.VirtualMachine) { r.Maintenance(r.hostName(*v.Runtime.Host), true) },
		"disk is independent": func(r *rig, _ *simulator.VirtualMachine) {
			for _, e := range r.Model.Map().AllReference("VirtualMachineSnapshot") {
				for _, d := range disksAmong(e.(*simulator.VirtualMachineSnapshot).Config.Hardware.Device) {
					d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).DiskMode = "independent_persistent"
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, h, ledger, snapshot := hotaddRig(t)
			spoil(r, r.vm(r.own))
			_, err := r.attach(h, snapshot, 0)
			if !errors.Is(err, ErrCannot) && !errors.Is(err, ErrMaintenance) || len(r.clones()) > 0 || len(ledger.list) != 1 {
				t.Errorf("Attach = %v, %d clones, %q", err, len(r.clones()), ledger.states())
			}
		})
	}
}

func TestAHostCannotClone(t *testing.T) {
	r, h, _, snapshot := hotaddRig(t)
	r.Fail(vmwaretest.Trouble{Method: "CloneVM_Task", Fault: &types.NotSupported{}})
	if _, err := r.attach(h, snapshot, 0); !errors.Is(err, ErrCannot) {
		t.Errorf("Attach = %v, want %v", err, ErrCannot)
	}
}

// A VM is destroyed with all its disks, so that what looks like a clone of ours is only
// destroyed if it still is one.
func TestACloneThatIsNoneAnyMoreIsNotDestroyed(t *testing.T) {
	for name, spoil := range map[string]func(r *rig, clone *simulator.VirtualMachine){
		"renamed":   func(_ *rig, c *simulator.VirtualMachine) { c.Name = "web02" },
		"annotated": func(_ *rig, c *simulator.VirtualMachine) { c.Config.Annotation = "mine now" },
		"runs": func(_ *rig, c *simulator.VirtualMachine) {
			c.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOn
		},
		"a template": func(_ *rig, c *simulator.VirtualMachine) { c.Config.Template = true },
		"has a disk of its own": func(_ *rig, c *simulator.VirtualMachine) {
			disksAmong(c.Config.Hardware.Device)[0].Backing.(*types.VirtualDiskFlatVer2BackingInfo).Parent = nil
		},
		"has a disk of the source": func(r *rig, c *simulator.VirtualMachine) {
			files := backingOf(disksAmong(r.vm(r.source).Config.Hardware.Device)[0].Backing).files
			b := disksAmong(c.Config.Hardware.Device)[0].Backing.(*types.VirtualDiskFlatVer2BackingInfo)
			b.FileName = files[1] // the base
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, h, ledger, snapshot := hotaddRig(t)
			a, err := r.attach(h, snapshot, 0)
			if err != nil {
				t.Fatal(err)
			}
			spoil(r, r.strangers()[0])
			err = h.Detach(context.Background(), a)
			if !errors.Is(err, ErrChanged) && !errors.Is(err, ErrBusy) || len(r.strangers()) != 1 {
				t.Errorf("Detach = %v, %q, and %d clones are left", err, ledger.states(), len(r.strangers()))
			}
		})
	}
}

// strangers are the VMs that were not added, whatever they are called.
func (r *rig) strangers() (list []*simulator.VirtualMachine) {
	for _, e := range r.Model.Map().All("VirtualMachine") {
		v := e.(*simulator.VirtualMachine)
		if v.Self != r.own.Ref && v.Self != r.source.Ref && v.Name != "old" {
			list = append(list, v)
		}
	}
	return list
}

func TestACloneIsNotDestroyedWhileItsDiskIsAttached(t *testing.T) {
	r, h, ledger, snapshot := hotaddRig(t)
	if _, err := r.attach(h, snapshot, 0); err != nil {
		t.Fatal(err)
	}
	r.Fail(vmwaretest.Trouble{Method: "ReconfigVM_Task", Fault: &types.InvalidState{}})
	err := h.Restore(context.Background())
	if err == nil || !errors.Is(err, ErrBusy) || len(r.clones()) != 1 {
		t.Errorf("Restore = %v, and %d clones are left", err, len(r.clones()))
	}
	if err := h.Restore(context.Background()); err != nil || len(r.clones()) != 0 {
		t.Errorf("Restore again = %v, %q", err, ledger.states())
	}
}

func TestAFreeUnitIsChosen(t *testing.T) {
	scsi := func(key, bus int32, sharing types.VirtualSCSISharing) types.VirtualSCSIController {
		c := types.VirtualSCSIController{SharedBus: sharing}
		c.Key, c.BusNumber = key, bus
		return c
	}
	full := func(v *mo.VirtualMachine, key int32, but ...int32) {
		for unit := range int32(unitsSCSI) {
			d := &types.VirtualDisk{}
			d.ControllerKey, d.UnitNumber = key, &unit
			if unit != ownUnit && !slices.Contains(but, unit) {
				v.Config.Hardware.Device = append(v.Config.Hardware.Device, d)
			}
		}
	}
	const no = types.VirtualSCSISharingNoSharing
	lsi := &types.VirtualLsiLogicController{VirtualSCSIController: scsi(1000, 0, no)}
	fast := &types.ParaVirtualSCSIController{VirtualSCSIController: scsi(1001, 1, no)}
	shared := &types.ParaVirtualSCSIController{VirtualSCSIController: scsi(1002, 2, types.VirtualSCSISharingPhysicalSharing)}
	old := &types.VirtualBusLogicController{VirtualSCSIController: scsi(1003, 3, no)}
	for name, c := range map[string]struct {
		full map[int32][]int32 // controllers that are full but for some units
		want slot
		err  error
	}{
		"empty":               {nil, slot{1001, 0}, nil},
		"not the own unit":    {map[int32][]int32{1001: {9}}, slot{1001, 9}, nil},
		"the next controller": {map[int32][]int32{1001: nil}, slot{1000, 0}, nil},
		"full":                {map[int32][]int32{1001: nil, 1000: nil}, slot{}, ErrTooMany},
	} {
		v := mo.VirtualMachine{Config: &types.VirtualMachineConfigInfo{}}
		v.Config.Hardware.Device = []types.BaseVirtualDevice{lsi, shared, old, fast}
		for key, but := range c.full {
			full(&v, key, but...)
		}
		if got, err := freeSlot(v); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: freeSlot = %+v, %v, want %+v, %v", name, got, err, c.want, c.err)
		}
	}
}
