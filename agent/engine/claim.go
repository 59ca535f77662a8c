package engine

import (
	"context"

	"hyper2kvm/agent/api/model"
)

// claim takes a record's task, if nobody else was quicker, and begins it. Where limits
// are set it looks again afterwards: of those that took one at the same time, the later
// ones give it back.
func (e *Engine) claim(ctx context.Context, r Record) error {
	e.hold(r.ID, &task{cancel: func(error) {}})
	claimed, err := e.change(ctx, r.ID, func(now *Record) error {
		if now.Epoch != r.Epoch || now.State != r.State || !e.mayTakeHeld(*now) {
			return errAsItIs
		}
		now.State, now.Owner, now.Epoch, now.Why = model.StateRunning, e.id, r.Epoch+1, ""
		return nil
	})
	if err != nil || claimed.Owner != e.id || claimed.Epoch != r.Epoch+1 || claimed.State != model.StateRunning {
		e.drop(r.ID)
		return err
	}
	if !e.table.await(ctx, claimed.Revision) {
		e.drop(r.ID) // it is ours, and taken again when it is seen
		return context.Cause(ctx)
	}
	if over := e.overLimit(claimed, claimed.Revision); over != "" && r.State == model.StateQueued {
		defer e.drop(r.ID)
		_, err := e.mine(ctx, claimed, func(r *Record) error { r.State = model.StateQueued; return nil })
		return err
	}
	e.begin(claimed)
	return nil
}

// mayTakeHeld is mayTake for a record of which the place is held already.
func (e *Engine) mayTakeHeld(r Record) bool {
	return r.State == model.StateQueued && e.waits(r) == "" || r.State == model.StateRunning && (r.Owner == e.id || e.nodes.silent(r.Owner, e.silence()))
}

func (e *Engine) hold(id string, t *task) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[id] = t
	if e.stopped {
		t.cancel(ErrShutdown)
	}
}

func (e *Engine) drop(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, id)
}

// mine edits a record as its owner: ErrFenced if it is not the owner any more.
func (e *Engine) mine(ctx context.Context, held Record, edit func(*Record) error) (Record, error) {
	return e.change(ctx, held.ID, func(r *Record) error {
		if r.Owner != e.id || r.Epoch != held.Epoch {
			return ErrFenced
		}
		return edit(r)
	})
}
