package vmwaretest

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func (s *Server) powerOn(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "powerOnVM", func() (types.AnyType, types.BaseMethodFault) {
		body := vm.PowerOnVMTask(ctx, req).(*methods.PowerOnVM_TaskBody)
		if body.Res == nil {
			return nil, body.Fault_.VimFault().(types.BaseMethodFault)
		}
		_, fault := outcome(ctx, body.Res.Returnval)
		if fault == nil {
			s.woke(ctx, vm)
		}
		return nil, fault
	})
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: ref}}
}

func (s *Server) powerOff(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "powerOffVM", func() (types.AnyType, types.BaseMethodFault) {
		body := vm.PowerOffVMTask(ctx, req).(*methods.PowerOffVM_TaskBody)
		_, fault := outcome(ctx, body.Res.Returnval)
		if fault == nil {
			s.fellAsleep(ctx, vm)
		}
		return nil, fault
	})
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: ref}}
}

// woke is what a guest tells of itself once it runs. Changes are tracked from then on.
func (s *Server) woke(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	s.mu.Lock()
	tools := !s.madeVMs[vm.Self].NoTools
	s.startTracking(vm)
	s.mu.Unlock()
	if tools {
		setTools(ctx, vm, types.VirtualMachineToolsStatusToolsOk, types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	}
}

// fellAsleep is what is left to know of a guest that is off.
func (s *Server) fellAsleep(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	if vm.Guest.ToolsStatus != types.VirtualMachineToolsStatusToolsNotInstalled {
		setTools(ctx, vm, types.VirtualMachineToolsStatusToolsNotRunning, types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)
	}
}

// setTools says how VMware's tools are, wherever that is told.
func setTools(ctx *simulator.Context, vm *simulator.VirtualMachine, status types.VirtualMachineToolsStatus, running types.VirtualMachineToolsRunningStatus) {
	version := string(types.VirtualMachineToolsVersionStatusGuestToolsCurrent)
	ctx.Update(vm, []types.PropertyChange{
		{Name: "guest.toolsStatus", Val: status},
		{Name: "guest.toolsRunningStatus", Val: string(running)},
		{Name: "guest.toolsVersionStatus2", Val: version},
		{Name: "summary.guest.toolsStatus", Val: status},
		{Name: "summary.guest.toolsRunningStatus", Val: string(running)},
		{Name: "summary.guest.toolsVersionStatus2", Val: version},
	})
}

// shutdownGuest asks the guest, which needs VMware's tools to hear it, and time to obey.
func (s *Server) shutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	vm := vmOf(ctx, req.This)
	if state := vm.Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOn {
		return refuse("the VM does not run", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: state})
	}
	if vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return refuse("VMware Tools do not run", &types.ToolsUnavailable{})
	}
	s.mu.Lock()
	v := s.madeVMs[req.This]
	s.mu.Unlock()
	if !v.IgnoresShutdown {
		time.AfterFunc(v.ShutdownTakes, func() { s.powerOff(s.context(), &types.PowerOffVM_Task{This: req.This}) })
	}
	return &methods.ShutdownGuestBody{Res: new(types.ShutdownGuestResponse)}
}

// Maintenance puts a host into maintenance, or takes it out: its VMs cannot be powered on.
func (s *Server) Maintenance(host string, on bool) {
	ctx := s.context()
	for _, e := range s.entities("HostSystem") {
		if h := e.(*simulator.HostSystem); h.Name == host {
			ctx.WithLock(h, func() {
				ctx.Update(h, []types.PropertyChange{
					{Name: "runtime.inMaintenanceMode", Val: on}, {Name: "summary.runtime.inMaintenanceMode", Val: on}})
			})
		}
	}
}
