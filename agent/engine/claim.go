package engine

import (
	"context"

	"hyper2kvm/agent/api/model"
)

// claim takes a record's task, if nobody else was quicker, and begins it. Where limits
// are set it looks again afterwards: of those that took one at the same time, the later
// ones give it back.
func (e *Engine) claim(ctx context.Context, r Record) error {
	if !e.hold(r.ID) {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, e.leased()) // what is taken later may be another's
	defer cancel()
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

// hold keeps a place for a record's task, until drop. Close waits for every place, and
// after it none is given: not one is looked for, taken or worked on unseen.
func (e *Engine) hold(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return false
	}
	e.working.Add(1)
	e.running[id] = &task{cancel: func(error) {}}
	return true
}

// occupy puts a task in the place that is held for it.
func (e *Engine) occupy(id string, t *task) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[id] = t
	if e.stopped {
		t.cancel(ErrShutdown)
	}
}

// drop gives a place back.
func (e *Engine) drop(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, id)
	e.working.Done()
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
