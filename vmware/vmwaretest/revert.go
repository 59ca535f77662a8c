package vmwaretest

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func (s *Server) revertToSnapshot(ctx *simulator.Context, req *types.RevertToSnapshot_Task) soap.HasFault {
	snapshot := ctx.Map.Get(req.This).(*simulator.VirtualMachineSnapshot)
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{
		Returnval: s.revertTask(ctx, snapshot)}}
}

func (s *Server) revertToCurrentSnapshot(ctx *simulator.Context, req *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	if vm.Snapshot == nil || vm.Snapshot.CurrentSnapshot == nil {
		return refuse("the VM has no snapshot", &types.NotFound{})
	}
	snapshot := ctx.Map.Get(*vm.Snapshot.CurrentSnapshot).(*simulator.VirtualMachineSnapshot)
	return &methods.RevertToCurrentSnapshot_TaskBody{Res: &types.RevertToCurrentSnapshot_TaskResponse{
		Returnval: s.revertTask(ctx, snapshot)}}
}

// revertTask puts a VM's disks on new deltas over a snapshot's. The VM is off then, as
// our snapshots hold no memory. Change IDs from before are good for nothing.
func (s *Server) revertTask(ctx *simulator.Context, snapshot *simulator.VirtualMachineSnapshot) types.ManagedObjectReference {
	vm := vmOf(ctx, snapshot.Vm)
	return task(ctx, vm, "revertToSnapshot", func() (types.AnyType, types.BaseMethodFault) {
		if err := s.putOn(ctx, vm, snapshot); err != nil {
			return nil, &types.SystemErrorFault{Reason: err.Error()}
		}
		ctx.Update(vm, []types.PropertyChange{
			{Name: "snapshot.currentSnapshot", Val: snapshot.Self},
			{Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff},
			{Name: "summary.runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff},
		})
		return nil, s.consolidate(ctx, vm)
	})
}

// putOn gives a VM the devices of a snapshot, each disk on a new delta.
func (s *Server) putOn(ctx *simulator.Context, vm *simulator.VirtualMachine, snapshot *simulator.VirtualMachineSnapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var devices []types.BaseVirtualDevice
	for _, d := range snapshot.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok && snapshotted(disk) {
			on, err := s.layerOf(vm, disk)
			if err != nil {
				return err
			}
			delta, err := s.snapshotDelta(on)
			if err != nil {
				return err
			}
			d = onLayer(disk, s.restack(backingOf(disk), delta))
			s.resetTracking(diskID{vm.Self, disk.Key})
		}
		devices = append(devices, d)
	}
	s.setDevices(ctx, vm, devices)
	return nil
}
