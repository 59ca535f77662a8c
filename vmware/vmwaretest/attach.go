package vmwaretest

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Attachment is a disk that came to a VM, or went.
type Attachment struct {
	VM   types.ManagedObjectReference
	Key  int32
	UUID string // of the disk; its kernel has it without the dashes
	Path string // of its descriptor
	Raw  string // a file with its bytes, which is not to be written
}

// reconfigure lets the simulator change the VM, and then does with the disks' files what
// it does not: it destroys those that it is told to and no others, and gives new disks
// bytes.
func (s *Server) reconfigure(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "reconfigVm", func() (types.AnyType, types.BaseMethodFault) {
		doomed, fault := s.prepare(ctx, vm, &req.Spec)
		if fault != nil {
			return nil, fault
		}
		before := attachments(vm)
		body := vm.ReconfigVMTask(ctx, req).(*methods.ReconfigVM_TaskBody)
		if _, fault := outcome(ctx, body.Res.Returnval); fault != nil {
			return nil, fault
		}
		s.settle(ctx, vm, doomed)
		s.tell(before, s.withBytes(vm, attachments(vm)))
		return nil, nil
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: ref}}
}

// prepare refuses disks that others have open, and returns those that are to be destroyed.
func (s *Server) prepare(ctx *simulator.Context, vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) (doomed []*layer, fault types.BaseMethodFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range spec.DeviceChange {
		change := c.GetVirtualDeviceConfigSpec()
		d, ok := change.Device.(*types.VirtualDisk)
		if !ok || backingOf(d) == nil {
			continue
		}
		switch {
		case change.Operation == types.VirtualDeviceConfigSpecOperationAdd && change.FileOperation == "":
			if s.opensInVain(ctx, vm, d) {
				return nil, lockedFault(backingOf(d).FileName)
			}
		case change.Operation == types.VirtualDeviceConfigSpecOperationRemove && change.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy:
			l, err := s.current(vm, d.Key)
			if err != nil {
				continue // the simulator knows what to say
			}
			if s.runsElsewhere(ctx, vm, l) {
				return nil, lockedFault(l.path)
			}
			doomed, change.FileOperation = append(doomed, l), ""
		}
	}
	return doomed, nil
}

func lockedFault(path string) types.BaseMethodFault {
	return &types.FileLocked{FileFault: types.FileFault{File: path}}
}

// opensInVain tells whether a disk that is there cannot be opened: a running VM writes
// to it, or others stand on it and this one would write to it.
func (s *Server) opensInVain(ctx *simulator.Context, vm *simulator.VirtualMachine, d *types.VirtualDisk) bool {
	file, err := s.file(s.inventoryPath(s.datacenter(vm)), backingOf(d).FileName)
	l := s.layers[file]
	if err != nil || l == nil {
		return false
	}
	writes := !strings.Contains(backingOf(d).DiskMode, "nonpersistent")
	return s.runsElsewhere(ctx, vm, l) || writes && len(s.children(l)) > 0
}

// runsElsewhere tells whether another VM that runs stands on a layer at once.
func (s *Server) runsElsewhere(ctx *simulator.Context, vm *simulator.VirtualMachine, l *layer) bool {
	for _, e := range ctx.Map.All("VirtualMachine") {
		other := e.(*simulator.VirtualMachine)
		if other == vm || other.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			continue
		}
		for _, d := range disksOf(other.Config.Hardware.Device) {
			if s.known(other, d) == l {
				return true
			}
		}
	}
	return false
}

// settle destroys the disks that are to be, and shows the chains of those that came.
func (s *Server) settle(ctx *simulator.Context, vm *simulator.VirtualMachine, doomed []*layer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range doomed {
		s.destroyed = append(s.destroyed, *l)
		_ = s.forget(l)
	}
	s.restackAll(ctx, vm)
}

// attachments are the disks of a VM.
func attachments(vm *simulator.VirtualMachine) (all []Attachment) {
	for _, d := range disksOf(vm.Config.Hardware.Device) {
		b := backingOf(d)
		all = append(all, Attachment{VM: vm.Self, Key: d.Key, UUID: b.Uuid, Path: b.FileName})
	}
	return all
}

// withBytes says where the bytes of attachments are.
func (s *Server) withBytes(vm *simulator.VirtualMachine, all []Attachment) []Attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range all {
		if l, err := s.current(vm, all[i].Key); err == nil {
			all[i].Raw = l.raw
		}
	}
	return all
}

// tell calls the test's hooks. The VM's task ends after them.
func (s *Server) tell(before, after []Attachment) {
	for _, a := range lacking(after, before) {
		if s.OnAttach != nil {
			s.OnAttach(a)
		}
	}
	for _, a := range lacking(before, after) {
		if s.OnDetach != nil {
			s.OnDetach(a)
		}
	}
}

// lacking are those of some attachments whose disks are not among others.
func lacking(some, others []Attachment) []Attachment {
	return slices.DeleteFunc(slices.Clone(some), func(a Attachment) bool {
		return slices.ContainsFunc(others, func(b Attachment) bool { return a.Path == b.Path })
	})
}
