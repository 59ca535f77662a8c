package vmwaretest

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// destroy deletes a VM with all disks that it has, whosever they were before, as a
// vCenter does. Leaks tells whose are missing.
func (s *Server) destroy(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "destroy", func() (types.AnyType, types.BaseMethodFault) {
		doomed, fault := s.doomed(ctx, vm)
		if fault != nil {
			return nil, fault
		}
		body := vm.DestroyTask(ctx, req).(*methods.Destroy_TaskBody)
		if _, fault := outcome(ctx, body.Res.Returnval); fault != nil {
			return nil, fault
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range doomed {
			s.destroyed = append(s.destroyed, *l)
			_ = s.forget(l)
		}
		return nil, nil
	})
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: ref}}
}

// doomed are the layers that go with a VM: those that it and its snapshots stand on,
// and its own below.
func (s *Server) doomed(ctx *simulator.Context, vm *simulator.VirtualMachine) ([]*layer, types.BaseMethodFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.ownedBy(vm)
	for _, l := range s.used(ctx, vm) {
		if s.runsElsewhere(ctx, vm, l) {
			return nil, lockedFault(l.path)
		}
		if l.owner != vm.Self {
			all = append(all, l)
		}
	}
	return all, nil
}
