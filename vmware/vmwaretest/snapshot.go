package vmwaretest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Snapshot makes a snapshot as somebody else would, so that it is no leak.
func (s *Server) Snapshot(t testing.TB, vm types.ManagedObjectReference, name string) types.ManagedObjectReference {
	t.Helper()
	ctx := context.Background()
	task, err := object.NewVirtualMachine(s.Client, vm).CreateSnapshot(ctx, name, "", false, false)
	if err != nil {
		t.Fatalf("make the snapshot %q: %v", name, err)
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		t.Fatalf("make the snapshot %q: %v", name, err)
	}
	ref := info.Result.(types.ManagedObjectReference)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[ref] = true
	return ref
}

func (s *Server) createSnapshot(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	ex := &types.CreateSnapshotEx_Task{This: req.This, Name: req.Name, Description: req.Description, Memory: req.Memory}
	if req.Quiesce {
		ex.QuiesceSpec = &types.VirtualMachineGuestQuiesceSpec{}
	}
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{
		Returnval: s.snapshotTask(ctx, ex, "createSnapshot")}}
}

func (s *Server) createSnapshotEx(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{
		Returnval: s.snapshotTask(ctx, req, "createSnapshotEx")}}
}

// snapshotTask lets the simulator keep the books, and then freezes the disks.
func (s *Server) snapshotTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task, name string) types.ManagedObjectReference {
	vm := vmOf(ctx, req.This)
	return task(ctx, vm, name, func() (types.AnyType, types.BaseMethodFault) {
		body := vm.CreateSnapshotExTask(ctx, req).(*methods.CreateSnapshotEx_TaskBody)
		ref, fault := outcome(ctx, body.Res.Returnval)
		if fault != nil {
			return nil, fault
		}
		snapshot := ctx.Map.Get(ref.(types.ManagedObjectReference)).(*simulator.VirtualMachineSnapshot)
		if err := s.freeze(ctx, vm, snapshot); err != nil {
			return nil, &types.SystemErrorFault{Reason: err.Error()}
		}
		return ref, nil
	})
}

// freeze puts a delta on each disk of a VM, and tells a new snapshot from which change
// ID on the guest writes there.
func (s *Server) freeze(ctx *simulator.Context, vm *simulator.VirtualMachine, snapshot *simulator.VirtualMachineSnapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startTracking(vm)
	var live []types.BaseVirtualDevice
	for _, d := range vm.Config.Hardware.Device {
		disk, ok := d.(*types.VirtualDisk)
		if ok && snapshotted(disk) {
			on, err := s.layerOf(vm, disk)
			if err != nil {
				return err
			}
			delta, err := s.snapshotDelta(on)
			if err != nil {
				return err
			}
			d = onLayer(disk, s.restack(backingOf(disk), delta))
		}
		live = append(live, d)
	}
	frozen := s.mark(vm, snapshot)
	ctx.Update(snapshot, []types.PropertyChange{{Name: "config.hardware.device", Val: frozen}})
	s.setDevices(ctx, vm, live)
	return nil
}

// snapshotted tells whether snapshots hold a disk.
func snapshotted(d *types.VirtualDisk) bool {
	b := backingOf(d)
	return b != nil && !strings.HasPrefix(b.DiskMode, "independent_")
}

// onLayer is a disk on another backing.
func onLayer(d *types.VirtualDisk, b *types.VirtualDiskFlatVer2BackingInfo) *types.VirtualDisk {
	n := *d
	n.Backing = b
	return &n
}

// setDevices gives a VM its devices anew.
func (s *Server) setDevices(ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) {
	s.showChangeIDs(vm, devices)
	ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
	vm.RefreshStorageInfo(ctx, nil)
}

// snapshotsOf are a VM's, by its tree.
func snapshotsOf(ctx *simulator.Context, vm *simulator.VirtualMachine) (all []*simulator.VirtualMachineSnapshot) {
	if vm.Snapshot == nil {
		return nil
	}
	for _, node := range flatten(vm.Snapshot.RootSnapshotList) {
		if snapshot, ok := ctx.Map.Get(node.Snapshot).(*simulator.VirtualMachineSnapshot); ok {
			all = append(all, snapshot)
		}
	}
	return all
}

// flatten lists a tree, parents before their children.
func flatten(tree []types.VirtualMachineSnapshotTree) (all []types.VirtualMachineSnapshotTree) {
	for _, node := range tree {
		all = slices.Concat(all, []types.VirtualMachineSnapshotTree{node}, flatten(node.ChildSnapshotList))
	}
	return all
}
