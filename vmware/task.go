package vmware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const othersPatience = 15 * time.Minute

// starter asks a server to begin a task.
type starter func(context.Context) (*object.Task, error)

// run has a server do a task and waits for its end. Other tasks on the same object are
// waited for: ErrBusy when that lasts too long. A start whose answer was lost is not
// repeated, as it may have been heard.
func (h *Hand) run(ctx context.Context, start starter) (types.AnyType, error) {
	until := time.Now().Add(h.patience())
	for p := newPauses(); ; {
		result, err := h.once(ctx, start)
		if !isFault[*types.TaskInProgress](err) || time.Now().After(until) {
			return result, err
		}
		if err := p.wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (h *Hand) patience() time.Duration {
	if h.Patience > 0 {
		return h.Patience
	}
	return othersPatience
}

func (h *Hand) once(ctx context.Context, start starter) (types.AnyType, error) {
	t, err := start(ctx)
	if err != nil {
		return nil, err
	}
	return h.Session.end(ctx, t.Reference())
}

// makes has a server do a task that makes something, and says what that is.
func (h *Hand) makes(ctx context.Context, what string, start starter) (string, error) {
	result, err := h.run(ctx, start)
	if err != nil {
		return "", err
	}
	ref, ok := result.(types.ManagedObjectReference)
	if !ok {
		return "", fmt.Errorf("the server made a %s and does not say which", what)
	}
	return ref.Value, nil
}

// vm is a VM that is changed.
func (h *Hand) vm(ref types.ManagedObjectReference) *object.VirtualMachine {
	return object.NewVirtualMachine(h.Session.client, ref)
}

// end waits for a task's end. The task is asked for again and again: a property
// collector would wait on the server, but dies with the log-in and with an idle proxy.
func (s *Session) end(ctx context.Context, ref types.ManagedObjectReference) (types.AnyType, error) {
	for p := newPauses(); ; {
		info, err := s.taskInfo(ctx, ref)
		switch {
		case err != nil:
			return nil, fmt.Errorf("ask what became of %s: %w", ref.Value, err)
		case info.State == types.TaskInfoStateSuccess:
			return info.Result, nil
		case info.State == types.TaskInfoStateError:
			return nil, task.Error{LocalizedMethodFault: info.Error, Description: info.Description}
		}
		if err := p.wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (s *Session) taskInfo(ctx context.Context, ref types.ManagedObjectReference) (types.TaskInfo, error) {
	var t mo.Task
	err := s.look(ctx, ref, &t, "info")
	if err == nil && t.Info.State == types.TaskInfoStateError && t.Info.Error == nil {
		err = errors.New("the task ended with an error that the server does not tell")
	}
	return t.Info, err
}

// settled waits for the tasks that others, or a process that was killed, began on
// objects, which need not be there any more: a VM that is destroyed goes before its files.
func (h *Hand) settled(ctx context.Context, objects ...types.ManagedObjectReference) error {
	ctx, cancel := context.WithTimeoutCause(ctx, h.patience(), ErrBusy)
	defer cancel()
	tasks, err := h.Session.tasks(ctx)
	if err != nil {
		return explain(err, "tasks under way")
	}
	for _, t := range tasks {
		if !slices.Contains(objects, t.entity) {
			continue
		}
		if _, err := h.Session.end(ctx, t.ref); err != nil && ctx.Err() != nil {
			return fmt.Errorf("%s of %s: %w", t.what, t.entity.Value, context.Cause(ctx))
		}
	}
	return nil
}

// underWay is a task that is queued or runs.
type underWay struct {
	ref, entity types.ManagedObjectReference
	what        string // as VMware calls it: VirtualMachine.createSnapshot
}

// tasks are the server's that are under way.
func (s *Session) tasks(ctx context.Context) (list []underWay, err error) {
	var objects []types.ObjectContent
	err = s.retry(ctx, func() (err error) {
		objects, err = s.objects(ctx, 0, s.recentTasks())
		return err
	})
	for _, o := range objects {
		v := properties(o)
		state := as[types.TaskInfoState](v["info.state"])
		if state == types.TaskInfoStateQueued || state == types.TaskInfoStateRunning {
			list = append(list, underWay{o.Obj, as[types.ManagedObjectReference](v["info.entity"]), as[string](v["info.descriptionId"])})
		}
	}
	return list, err
}

// look reads properties of an object, again where the log-in ended meanwhile: some servers
// answer then, and keep the properties back.
func (s *Session) look(ctx context.Context, ref types.ManagedObjectReference, to any, properties ...string) error {
	return s.retry(ctx, func() error {
		return property.DefaultCollector(s.client).RetrieveOne(ctx, ref, properties, to)
	})
}

// shortest is the first pause. It is a variable for tests alone.
var shortest = 50 * time.Millisecond

// pauses are the growing times between tries.
type pauses struct{ next time.Duration }

func newPauses() *pauses { return &pauses{next: shortest} }

// wait pauses, unless the context ends first: then it says why.
func (p *pauses) wait(ctx context.Context) error {
	timer := time.NewTimer(p.next)
	defer timer.Stop()
	p.next = min(2*p.next, 2*time.Second)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// gone reports whether an error says that an object is not there.
func gone(err error) bool {
	return isFault[*types.ManagedObjectNotFound](err) || errors.Is(err, ErrGone)
}
