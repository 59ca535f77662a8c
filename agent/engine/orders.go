package engine

import (
	"fmt"
	"time"

	"hyper2kvm/agent/api/model"
)

// order does what is asked for to a record, or says why that cannot be. What takes
// long, and what its owner has to do, is only noted; the operation tells when it is done.
func (r *Record) order(o Order, now time.Time) (*model.Operation, error) {
	sum := digest(struct {
		Kind   model.OperationKind
		Digest model.Digest
		Args   Args
	}{o.Kind, o.Digest, o.Args})
	if was, err := r.asked(o.Key, sum); was != nil || err != nil {
		return was, err
	}
	if o.Revision != 0 && o.Revision != r.Revision {
		return nil, ErrChanged
	}
	do, ok := orders[o.Kind]
	if !ok {
		return nil, fmt.Errorf("%w: a migration cannot be asked to %s", ErrNotNow, o.Kind)
	}
	done, err := do(r, o)
	if err != nil {
		return nil, err
	}
	op := r.note(o, sum, now)
	if done {
		op.Done, op.Ended = true, now
	}
	return op, nil
}

// orders are what can be asked for. Each tells whether it is done already.
var orders = map[model.OperationKind]func(*Record, Order) (bool, error){
	model.OperationKindApprove: (*Record).approve,
	model.OperationKindPause:   (*Record).pause,
	model.OperationKindResume:  (*Record).resume,
	model.OperationKindRetry:   (*Record).retry,
	model.OperationKindCancel:  (*Record).giveUp,
	model.OperationKindUndo:    func(r *Record, o Order) (bool, error) { return r.further(Undo, o) },
	model.OperationKindVerify:  func(r *Record, o Order) (bool, error) { return r.further(Verify, o) },
	model.OperationKindTest:    func(r *Record, o Order) (bool, error) { return r.further(Test, o) },
}

func (r *Record) approve(o Order) (bool, error) {
	switch {
	case r.Plan.ApprovedBy != "" && r.Plan.Digest == o.Digest:
		return true, nil
	case r.State != model.StatePlanned:
		return false, r.notNow("approved", "it waits for that when its plan is made, if its spec says `approval: required`")
	case r.Plan.Digest != o.Digest:
		return false, fmt.Errorf("%w: its plan is %s now, and not %s; review it again", ErrChanged, r.Plan.Digest, o.Digest)
	case r.Plan.Blockers > 0:
		return false, fmt.Errorf("%w: its plan has %d blockers, which no approval lifts; do what they say, and retry it", ErrNotNow, r.Plan.Blockers)
	}
	r.Plan.ApprovedBy = o.By
	r.queue()
	return true, nil
}

func (r *Record) pause(Order) (bool, error) {
	switch r.State {
	case model.StatePaused:
		return true, nil
	case model.StateQueued, model.StatePlanned:
		if r.Task == Clear {
			return false, r.notNow("paused", "it is being given up")
		}
		r.State, r.Why = model.StatePaused, ""
		return true, nil
	case model.StateRunning:
		if r.Task != Migrate || r.Ask == model.OperationKindCancel {
			return false, r.notNow("paused", "what runs now is short; wait for its end")
		}
		r.Ask = model.OperationKindPause
		return false, nil
	}
	return false, r.notNow("paused", "it has ended")
}

func (r *Record) resume(Order) (bool, error) {
	switch {
	case r.State == model.StateRunning && r.Ask == model.OperationKindPause:
		r.Ask = "" // its owner has not stopped yet; if it has, it goes on by itself
		return true, nil
	case r.State == model.StateQueued || r.State == model.StateRunning:
		return true, nil
	case r.State != model.StatePaused:
		return false, r.notNow("resumed", "only one that is paused can be")
	case r.held():
		r.State, r.Why = model.StatePlanned, ""
	default:
		r.queue()
	}
	return true, nil
}

// held tells of a plan that waits to be approved.
func (r *Record) held() bool {
	return r.Spec.Approval == model.SpecApprovalRequired && r.Plan.Digest != "" && r.Plan.ApprovedBy == ""
}

func (r *Record) retry(Order) (bool, error) {
	if r.State != model.StateFailed {
		return false, r.notNow("tried again", "only one that has failed can be")
	}
	r.Crashes = 0
	r.queue()
	return false, nil
}

// giveUp has what was made taken away. One that nobody has begun has made nothing.
func (r *Record) giveUp(Order) (bool, error) {
	switch {
	case r.State == model.StateCancelled:
		return true, nil
	case r.State == model.StateDone || r.Task == Undo || r.Task == Verify || r.Task == Test:
		return false, r.notNow("given up", "its result is there: undo it, or forget it and remove its folder")
	case r.State == model.StateRunning:
		r.Ask = model.OperationKindCancel
	case r.Epoch == 0:
		r.State, r.Why = model.StateCancelled, ""
		r.end(r.Updated, model.Problem{}, nil)
		return true, nil
	default:
		r.clear()
	}
	return false, nil
}

// clear has an appliance take away what is left of the migration.
func (r *Record) clear() {
	r.Task, r.Ask = Clear, ""
	r.queue()
}

// further has something done with the result.
func (r *Record) further(t Task, o Order) (bool, error) {
	again := r.State == model.StateFailed && r.Task != Migrate && r.Task != Clear // a further task that failed
	switch {
	case !r.converted():
		return false, r.notNow("asked for that", "it has no result: its mode is "+string(r.Spec.Mode))
	case r.State != model.StateDone && !again:
		return false, r.notNow("asked for that", "that is for one that is done")
	case r.Verdict == model.VerdictUndone:
		return false, r.notNow("asked for that", "its changes were taken back; migrate the guest again")
	}
	r.Task, r.Args = t, o.Args
	r.queue()
	return false, nil
}

// queue has the record's task wait for its turn.
func (r *Record) queue() {
	r.State, r.Why, r.Problem, r.NotBefore = model.StateQueued, "", model.Problem{}, time.Time{}
}

func (r *Record) notNow(what, why string) error {
	return fmt.Errorf("%w: %s is %s and cannot be %s: %s", ErrNotNow, r.ID, r.State, what, why)
}
