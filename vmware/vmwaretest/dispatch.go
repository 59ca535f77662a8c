package vmwaretest

import (
	"maps"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// answer answers a call in the simulator's place.
type answer func(s *Server, ctx *simulator.Context, request types.AnyType) soap.HasFault

// on is an answer by a function of the request's own type.
func on[R any](f func(*Server, *simulator.Context, *R) soap.HasFault) answer {
	return func(s *Server, ctx *simulator.Context, request types.AnyType) soap.HasFault {
		return f(s, ctx, request.(*R))
	}
}

// answers are the calls that the simulator does not answer, or not well enough, by the
// type of the object and the name of the method.
var answers = map[string]answer{
	"VirtualMachine.CreateSnapshot_Task":                on((*Server).createSnapshot),
	"VirtualMachine.CreateSnapshotEx_Task":              on((*Server).createSnapshotEx),
	"VirtualMachine.RemoveAllSnapshots_Task":            on((*Server).removeAllSnapshots),
	"VirtualMachine.RevertToCurrentSnapshot_Task":       on((*Server).revertToCurrentSnapshot),
	"VirtualMachine.ConsolidateVMDisks_Task":            on((*Server).consolidateDisks),
	"VirtualMachine.QueryChangedDiskAreas":              on((*Server).queryChangedDiskAreas),
	"VirtualMachine.PowerOnVM_Task":                     on((*Server).powerOn),
	"VirtualMachine.PowerOffVM_Task":                    on((*Server).powerOff),
	"VirtualMachine.ShutdownGuest":                      on((*Server).shutdownGuest),
	"VirtualMachine.ReconfigVM_Task":                    on((*Server).reconfigure),
	"VirtualMachine.Rename_Task":                        on((*Server).rename),
	"VirtualMachine.CloneVM_Task":                       on((*Server).clone),
	"VirtualMachine.Destroy_Task":                       on((*Server).destroy),
	"VirtualMachine.ExportVm":                           on((*Server).exportVM),
	"VirtualMachineSnapshot.ExportSnapshot":             on((*Server).exportSnapshot),
	"AuthorizationManager.HasPrivilegeOnEntities":       on((*Server).hasPrivilegeOnEntities),
	"AuthorizationManager.HasPrivilegeOnEntity":         on((*Server).hasPrivilegeOnEntity),
	"AuthorizationManager.HasUserPrivilegeOnEntities":   on((*Server).hasUserPrivilegeOnEntities),
	"AuthorizationManager.FetchUserPrivilegeOnEntities": on((*Server).fetchUserPrivilegeOnEntities),
	"VirtualMachineSnapshot.RemoveSnapshot_Task":        on((*Server).removeSnapshot),
	"VirtualMachineSnapshot.RevertToSnapshot_Task":      on((*Server).revertToSnapshot),
}

// dispatch is asked before each call. The simulator takes the handler that it gives
// only if there is no object of the call's reference, so an override gets a reference
// that no object has.
//
// Source: govmomi v0.56.0, simulator.go, Service.call.
func (s *Server) dispatch(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	s.count(ctx, m)
	if ctx.Session == nil || ctx.Session.Get(m.This) == nil {
		return nil, nil // the simulator refuses them well
	}
	a := s.answerTo(ctx, m)
	if a == nil {
		return nil, nil
	}
	o := &override{server: s, answer: a}
	m.This, m.Name = o.Reference(), "Answer"
	return o, nil
}

// answerTo is who answers a call; nil: the simulator.
func (s *Server) answerTo(ctx *simulator.Context, m *simulator.Method) answer {
	on := m.This
	if !arranger(ctx) {
		if t := s.trouble(m); t != nil {
			return func(_ *Server, ctx *simulator.Context, _ types.AnyType) soap.HasFault { return t.strike(ctx, on) }
		}
		if fault := s.denied(ctx, m); fault != nil {
			return refusal("Permission to perform this operation was denied.", fault)
		}
	}
	if disabledByExport[m.Name] && s.exporting(on) {
		return refusal("the VM is being exported", &types.MethodDisabled{})
	}
	return answers[m.This.Type+"."+m.Name]
}

// refusal is an answer that refuses.
func refusal(text string, fault types.BaseMethodFault) answer {
	return func(*Server, *simulator.Context, types.AnyType) soap.HasFault { return refuse(text, fault) }
}

// disabledByExport are the methods that change what is exported.
//
// Source: vSphere Web Services API, HttpNfcLease: "operations that alter the state of
// the virtual machines are disabled" as long as a lease lasts.
var disabledByExport = map[string]bool{
	"PowerOnVM_Task": true, "ReconfigVM_Task": true, "Destroy_Task": true, "UnregisterVM": true, "RevertToCurrentSnapshot_Task": true,
}

// count counts the calls of clients.
func (s *Server) count(ctx *simulator.Context, m *simulator.Method) {
	if ctx.Session != nil && arranger(ctx) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[m.Name]++
}

// Calls is how often clients have called each method.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// arranger tells whether it is the test itself that calls. It has logged in nowhere.
func arranger(ctx *simulator.Context) bool { return ctx.Session.UserName == "" }

// override is an object with one method, Answer. It is not locked: what it calls is.
type override struct {
	server *Server
	answer answer
}

// Reference is one that no object has.
func (o *override) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "vmwaretest", Value: "override"}
}

// Answer is called by the simulator.
func (o *override) Answer(ctx *simulator.Context, request types.AnyType) soap.HasFault {
	return o.answer(o.server, ctx, request)
}

// Lock and Unlock take the object out of the simulator's locking.
func (*override) Lock() {}

// Unlock does nothing.
func (*override) Unlock() {}

// refused is the answer to a call that has none but a fault.
type refused struct {
	Reason *soap.Fault `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

// Fault is why.
func (r *refused) Fault() *soap.Fault { return r.Reason }

func refuse(text string, fault types.BaseMethodFault) soap.HasFault {
	return &refused{Reason: simulator.Fault(text, fault)}
}

// task runs f as a task on a VM, which is locked meanwhile.
func task(ctx *simulator.Context, vm *simulator.VirtualMachine, name string, f func() (types.AnyType, types.BaseMethodFault)) (ref types.ManagedObjectReference) {
	t := simulator.CreateTask(vm, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return f() })
	ctx.WithLock(vm, func() { ref = t.Run(ctx) })
	return ref
}

// outcome waits for a task of the simulator's own.
func outcome(ctx *simulator.Context, ref types.ManagedObjectReference) (types.AnyType, types.BaseMethodFault) {
	t := ctx.Map.Get(ref).(*simulator.Task)
	t.Wait()
	if t.Info.Error != nil {
		return nil, t.Info.Error.Fault
	}
	return t.Info.Result, nil
}

// vmOf is the VM of a reference that was found before.
func vmOf(ctx *simulator.Context, ref types.ManagedObjectReference) *simulator.VirtualMachine {
	vm, _ := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	return vm
}
