package vmwaretest

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Trouble is a method that fails.
type Trouble struct {
	Method string // as the API calls it: CreateSnapshot_Task
	Fault  types.BaseMethodFault
	Task   bool // the call succeeds, and the task that it starts fails
	After  int  // calls that succeed before
	Times  int  // calls that fail then; 1 if zero
	// When tells which requests are meant, if not all of them.
	When func(request types.AnyType) bool
}

// Fail makes a method fail from now on. The arranger's own calls never do.
func (s *Server) Fail(t Trouble) {
	if t.Times == 0 {
		t.Times = 1
	}
	if t.Task && startedTasks[t.Method] == nil {
		panic("vmwaretest: " + t.Method + " is not known to start a task") // the test is wrong
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.troubles = append(s.troubles, &t)
}

// Quiesced tells whether a snapshot is asked for in which the guest's file systems
// hold still.
func Quiesced(request types.AnyType) bool {
	switch r := request.(type) {
	case *types.CreateSnapshot_Task:
		return r.Quiesce
	case *types.CreateSnapshotEx_Task:
		return r.QuiesceSpec != nil
	}
	return false
}

// trouble is what a call fails with.
func (s *Server) trouble(m *simulator.Method) *Trouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.troubles {
		if t.Method != m.Name || t.Times == 0 || t.When != nil && !t.When(m.Body) {
			continue
		}
		if t.After > 0 {
			t.After--
			continue
		}
		t.Times--
		return t
	}
	return nil
}

// strike is the answer to a call that fails.
func (t *Trouble) strike(ctx *simulator.Context, on types.ManagedObjectReference) soap.HasFault {
	if !t.Task {
		return refuse(fmt.Sprintf("%T", t.Fault), t.Fault)
	}
	name := strings.ToLower(t.Method[:1]) + strings.TrimSuffix(t.Method[1:], "_Task")
	failing := simulator.CreateTask(on, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, t.Fault
	})
	var ref types.ManagedObjectReference
	ctx.WithLock(on, func() { ref = failing.Run(ctx) })
	return startedTasks[t.Method](ref)
}

// startedTasks are the answers of methods that start tasks.
var startedTasks = map[string]func(task types.ManagedObjectReference) soap.HasFault{
	"CreateSnapshot_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: t}}
	},
	"CreateSnapshotEx_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: t}}
	},
	"RemoveSnapshot_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: t}}
	},
	"RemoveAllSnapshots_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: t}}
	},
	"RevertToSnapshot_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: t}}
	},
	"ConsolidateVMDisks_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: t}}
	},
	"ReconfigVM_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: t}}
	},
	"PowerOnVM_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: t}}
	},
	"PowerOffVM_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: t}}
	},
	"CloneVM_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{Returnval: t}}
	},
	"Destroy_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: t}}
	},
	"Rename_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: t}}
	},
	"MoveIntoFolder_Task": func(t types.ManagedObjectReference) soap.HasFault {
		return &methods.MoveIntoFolder_TaskBody{Res: &types.MoveIntoFolder_TaskResponse{Returnval: t}}
	},
}
