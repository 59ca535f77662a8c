package vmwaretest

import (
	"os"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// clone has the simulator make a VM like another one, and puts the disks that it made
// empty onto a snapshot's, or fills them with their bytes. Only a vCenter can.
func (s *Server) clone(ctx *simulator.Context, req *types.CloneVM_Task) soap.HasFault {
	if s.options.ESX {
		return refuse("an ESXi host clones no VMs", &types.NotSupported{})
	}
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "cloneVm", func() (types.AnyType, types.BaseMethodFault) {
		devices, fault := s.cloned(ctx, vm, req)
		if fault != nil {
			return nil, fault
		}
		made, fault := cloneByTheBook(ctx, vm, *req)
		if fault != nil {
			return nil, fault
		}
		if err := s.finishClone(ctx, made, vm, devices, linked(req)); err != nil {
			return nil, &types.SystemErrorFault{Reason: err.Error()}
		}
		return made.Self, nil
	})
	return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{Returnval: ref}}
}

// linked tells whether a clone's disks are to stand on the ones that are cloned.
func linked(req *types.CloneVM_Task) bool {
	return req.Spec.Location.DiskMoveType == string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking)
}

// cloned are the devices that a clone is to have: a snapshot's, or the VM's as it is.
func (s *Server) cloned(ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.CloneVM_Task) ([]types.BaseVirtualDevice, types.BaseMethodFault) {
	folder, ok := ctx.Map.Get(req.Folder).(*simulator.Folder)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: req.Folder}
	}
	if e := ctx.Map.FindByName(stored(req.Name), folder.ChildEntity); e != nil {
		return nil, &types.DuplicateName{Name: req.Name, Object: e.Reference()}
	}
	if req.Spec.Snapshot == nil {
		if linked(req) {
			return nil, &types.InvalidArgument{InvalidProperty: "spec.snapshot"}
		}
		return vm.Config.Hardware.Device, nil
	}
	snapshot, ok := ctx.Map.Get(*req.Spec.Snapshot).(*simulator.VirtualMachineSnapshot)
	if !ok || snapshot.Vm != vm.Self {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.snapshot"}
	}
	return snapshot.Config.Hardware.Device, nil
}

// cloneByTheBook clones as the simulator does, under a name that it can.
func cloneByTheBook(ctx *simulator.Context, vm *simulator.VirtualMachine, req types.CloneVM_Task) (*simulator.VirtualMachine, types.BaseMethodFault) {
	name := stored(req.Name)
	if name != req.Name {
		req.Name = uuid.NewString()
	}
	body := vm.CloneVMTask(ctx, &req).(*methods.CloneVM_TaskBody)
	if body.Res == nil {
		return nil, body.Fault_.VimFault().(types.BaseMethodFault)
	}
	ref, fault := outcome(ctx, body.Res.Returnval)
	if fault != nil {
		return nil, fault
	}
	made := vmOf(ctx, ref.(types.ManagedObjectReference))
	ctx.Update(made, []types.PropertyChange{
		{Name: "name", Val: name}, {Name: "config.name", Val: name}, {Name: "summary.config.name", Val: name}})
	if c := req.Spec.Config; c != nil && c.Annotation != "" {
		ctx.Update(made, []types.PropertyChange{{Name: "config.annotation", Val: c.Annotation}})
	}
	return made, nil
}

// finishClone gives a clone's disks their bytes.
func (s *Server) finishClone(ctx *simulator.Context, made, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice, link bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, original := range disksOf(devices) {
		for _, d := range disksOf(made.Config.Hardware.Device) {
			if d.Key != original.Key {
				continue // removed by the clone's own spec, or another one
			}
			from, err := s.layerOf(vm, original)
			if err == nil {
				err = s.cloneDisk(made, d, from, link)
			}
			if err != nil {
				return err
			}
		}
	}
	s.restackAll(ctx, made)
	return nil
}

// cloneDisk puts a layer in the place of the files that the simulator made.
func (s *Server) cloneDisk(made *simulator.VirtualMachine, d *types.VirtualDisk, from *layer, link bool) error {
	name := backingOf(d).FileName
	file, err := s.file(s.inventoryPath(s.datacenter(made)), name)
	if err != nil {
		return err
	}
	if err := os.Remove(flat(file)); err != nil && !os.IsNotExist(err) { // the simulator's
		return err
	}
	if link {
		c, err := s.child(from, name, file, made.Self)
		if err == nil {
			c.madeByClient()
		}
		return err
	}
	l := &layer{path: name, file: file, raw: flat(file), size: from.size, owner: made.Self, uuid: newDiskUUID()}
	if err := l.share(from); err != nil {
		return err
	}
	return s.writeBase(l)
}
