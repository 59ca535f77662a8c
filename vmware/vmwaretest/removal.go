package vmwaretest

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The simulator's own removal of snapshots deletes the wrong files of the datastore
// when a VM has two of them or more, so nothing of it is used.

func (s *Server) removeSnapshot(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	snapshot := ctx.Map.Get(req.This).(*simulator.VirtualMachineSnapshot)
	vm := vmOf(ctx, snapshot.Vm)
	ref := task(ctx, vm, "removeSnapshot", func() (types.AnyType, types.BaseMethodFault) {
		node := find(vm.Snapshot.RootSnapshotList, req.This)
		gone := []types.ManagedObjectReference{req.This}
		if req.RemoveChildren {
			for _, n := range flatten(node.ChildSnapshotList) {
				gone = append(gone, n.Snapshot)
			}
		}
		return nil, s.drop(ctx, vm, gone)
	})
	return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: ref}}
}

func (s *Server) removeAllSnapshots(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "removeAllSnapshots", func() (types.AnyType, types.BaseMethodFault) {
		var gone []types.ManagedObjectReference
		for _, snapshot := range snapshotsOf(ctx, vm) {
			gone = append(gone, snapshot.Self)
		}
		return nil, s.drop(ctx, vm, gone)
	})
	return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: ref}}
}

func (s *Server) consolidateDisks(ctx *simulator.Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "consolidateVMDisks", func() (types.AnyType, types.BaseMethodFault) {
		return nil, s.consolidate(ctx, vm)
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: ref}}
}

// find is a snapshot in a tree.
func find(tree []types.VirtualMachineSnapshotTree, ref types.ManagedObjectReference) *types.VirtualMachineSnapshotTree {
	for i := range tree {
		if tree[i].Snapshot == ref {
			return &tree[i]
		}
		if n := find(tree[i].ChildSnapshotList, ref); n != nil {
			return n
		}
	}
	return nil
}

// drop takes snapshots out of a VM's tree and merges the disks that nothing needs any more.
func (s *Server) drop(ctx *simulator.Context, vm *simulator.VirtualMachine, gone []types.ManagedObjectReference) types.BaseMethodFault {
	if len(gone) == 0 {
		return nil
	}
	current := vm.Snapshot.CurrentSnapshot
	for current != nil && slices.Contains(gone, *current) {
		current = parentOf(vm.Snapshot.RootSnapshotList, nil, *current)
	}
	tree := without(vm.Snapshot.RootSnapshotList, gone)
	for _, ref := range gone {
		s.dropFiles(ctx, vm, ref)
		ctx.Map.Remove(ctx, ref)
	}
	ctx.Update(vm, snapshotChanges(tree, current))
	return s.consolidate(ctx, vm)
}

// snapshotChanges are what a VM's snapshots are from now on.
func snapshotChanges(tree []types.VirtualMachineSnapshotTree, current *types.ManagedObjectReference) []types.PropertyChange {
	if len(tree) == 0 {
		return []types.PropertyChange{{Name: "snapshot"}, {Name: "rootSnapshot"}}
	}
	var roots []types.ManagedObjectReference
	for _, n := range tree {
		roots = append(roots, n.Snapshot)
	}
	return []types.PropertyChange{
		{Name: "snapshot", Val: types.VirtualMachineSnapshotInfo{CurrentSnapshot: current, RootSnapshotList: tree}},
		{Name: "rootSnapshot", Val: roots},
	}
}

// parentOf is the snapshot that another one stands on.
func parentOf(tree []types.VirtualMachineSnapshotTree, above *types.ManagedObjectReference, ref types.ManagedObjectReference) *types.ManagedObjectReference {
	for _, n := range tree {
		if n.Snapshot == ref {
			return above
		}
		if p := parentOf(n.ChildSnapshotList, &n.Snapshot, ref); p != nil {
			return p
		}
	}
	return nil
}

// without is a tree without some snapshots; what stood on them stands on their parents.
func without(tree []types.VirtualMachineSnapshotTree, gone []types.ManagedObjectReference) (left []types.VirtualMachineSnapshotTree) {
	for _, n := range tree {
		n.ChildSnapshotList = without(n.ChildSnapshotList, gone)
		if slices.Contains(gone, n.Snapshot) {
			left = append(left, n.ChildSnapshotList...)
			continue
		}
		left = append(left, n)
	}
	return left
}

// dropFiles removes what the simulator wrote for a snapshot besides its disks.
func (s *Server) dropFiles(ctx *simulator.Context, vm *simulator.VirtualMachine, ref types.ManagedObjectReference) {
	dc := s.inventoryPath(s.datacenter(vm))
	for _, l := range vm.Layout.Snapshot {
		for _, name := range l.SnapshotFile {
			if file, err := s.file(dc, name); l.Key == ref && err == nil && filepath.Ext(file) == ".vmsn" {
				_ = os.Remove(file) // as little as a host does if it cannot
			}
		}
	}
	vm.Layout.Snapshot = slices.DeleteFunc(vm.Layout.Snapshot, func(l types.VirtualMachineFileLayoutSnapshotLayout) bool { return l.Key == ref })
	vm.LayoutEx.Snapshot = slices.DeleteFunc(vm.LayoutEx.Snapshot, func(l types.VirtualMachineFileLayoutExSnapshotLayout) bool { return l.Key == ref })
}
