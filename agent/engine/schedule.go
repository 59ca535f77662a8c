package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/schedule"
	"hyper2kvm/pipeline/week"
)

// schedule takes what may be taken, each time something has changed, until ctx ends.
func (e *Engine) schedule(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		case <-tick.C:
		}
		select {
		case <-e.table.complete: // what is not known cannot be weighed
		default:
			continue
		}
		e.pass(ctx)
	}
}

// pass looks once at every migration that has not ended.
func (e *Engine) pass(ctx context.Context) {
	for _, r := range e.table.due() {
		if ctx.Err() != nil {
			return
		}
		e.consider(ctx, r.Record)
	}
}

// consider does what a record asks of this appliance.
func (e *Engine) consider(ctx context.Context, r Record) {
	switch {
	case e.here(r):
		e.attend(r)
	case r.State == model.StateQueued && e.tooLate(r):
		e.expire(ctx, r)
	case e.mayTake(r) && time.Now().Before(e.leased()):
		if err := e.claim(ctx, r); err != nil && ctx.Err() == nil {
			e.config.Log.Warn("a migration could not be taken", "migration", r.ID, "err", err)
		}
	}
}

// here tells whether a task of a record runs in this process.
func (e *Engine) here(r Record) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.running[r.ID]
	return ok
}

// attend ends a task that runs here, if it is to end.
func (e *Engine) attend(r Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.running[r.ID]
	switch {
	case !ok || t.epoch == 0: // not begun yet
	case r.Epoch > t.epoch || r.Owner != e.id:
		t.cancel(ErrFenced)
	case r.Ask == model.OperationKindCancel:
		t.cancel(ErrCancelled)
	case r.Ask == model.OperationKindPause:
		t.cancel(ErrPaused)
	case r.Task == Migrate && r.Spec.Schedule.WhenClosed == model.ScheduleWhenClosedPause && !open(r.Spec.Schedule, time.Now()):
		t.cancel(ErrClosed)
	}
}

// mayTake tells whether this appliance may run a record's task now.
func (e *Engine) mayTake(r Record) bool {
	if e.full() || !within(Uses(r.Spec), e.offered()) {
		return false
	}
	switch r.State {
	case model.StateQueued:
		return e.waits(r) == ""
	case model.StateRunning: // its owner is gone, or is this appliance in a former life
		return r.Owner == e.id || e.nodes.silent(r.Owner, e.silence())
	}
	return false
}

func (e *Engine) full() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stopped || len(e.running) >= e.config.Capacity
}

// waits tells what a queued record waits for; "" if for nothing but an appliance.
func (e *Engine) waits(r Record) string {
	now, s, uses := time.Now(), r.Spec.Schedule, Uses(r.Spec)
	switch {
	case now.Before(r.NotBefore):
		return "it is tried again at " + r.NotBefore.Format(time.RFC3339)
	case !within(uses, e.offered()) && !e.nodes.reached(uses, e.config.Lease):
		return unreached(uses)
	case r.Task != Migrate:
		return ""
	case now.Before(s.Start):
		return "it begins at " + s.Start.Format(time.RFC3339)
	case !open(s, now):
		return "it is outside of its windows; the next opens " + opens(s, now)
	}
	if why := e.waitsFor(s.After); why != "" {
		return why
	}
	return e.overLimit(r, 0)
}

// waitsFor tells which of some migrations is not done and proved.
func (e *Engine) waitsFor(after []string) string {
	for _, id := range after {
		r, ok := e.table.get(id)
		switch {
		case !ok:
			return fmt.Sprintf("it comes after %s, which is not there", id)
		case r.State == model.StateDone && (r.Verdict == model.VerdictProved || r.Verdict == model.VerdictRead):
		case r.State == model.StateDone:
			return fmt.Sprintf("it comes after %s, which is %s and not proved", id, r.Verdict)
		default:
			return fmt.Sprintf("it comes after %s, which is %s", id, r.State)
		}
	}
	return ""
}

// overLimit tells of what a record uses that as many others use as may, of those that
// were taken before a revision; before now if it is 0.
func (e *Engine) overLimit(r Record, before int64) string {
	if r.Task != Migrate { // only migrations wait for room
		return ""
	}
	for _, use := range Uses(r.Spec) {
		limit, ok := e.limit(use)
		if ok && e.others(r, before, func(o *seen) bool { return slices.Contains(Uses(o.Spec), use) }) >= limit {
			return fmt.Sprintf("%d migrations at once may use %s, and that many do", limit, use)
		}
	}
	if r.AtOnce > 0 && e.others(r, before, func(o *seen) bool { return o.Batch == r.Batch }) >= r.AtOnce {
		return fmt.Sprintf("%d migrations of the batch %s may run at once, and that many do", r.AtOnce, r.Batch)
	}
	return ""
}

// limit is how many migrations may use something at once, if that is limited.
func (e *Engine) limit(use string) (int, bool) {
	if strings.HasPrefix(use, diskUse) {
		return 1, true
	}
	limit, ok := e.config.Limits[use]
	return limit, ok
}

// others counts those that run beside a record, were taken before a revision, and share
// something with it.
func (e *Engine) others(r Record, before int64, share func(*seen) bool) int {
	return e.table.count(func(o *seen) bool {
		return o.ID != r.ID && o.State == model.StateRunning && (before == 0 || o.claimed < before) && share(o)
	})
}

// tooLate tells of a migration that should have begun.
func (e *Engine) tooLate(r Record) bool {
	end := r.Spec.Schedule.End
	return r.Task == Migrate && r.Epoch == 0 && !end.IsZero() && time.Now().After(end)
}

func (e *Engine) expire(ctx context.Context, r Record) {
	_, err := e.change(ctx, r.ID, func(r *Record) error {
		if r.State != model.StateQueued || !e.tooLate(*r) {
			return errAsItIs
		}
		r.fail(model.Problem{Code: "too-late", Detail: "it had not begun by " + r.Spec.Schedule.End.Format(time.RFC3339), Try: "give it a schedule with a later end, and retry it"})
		return nil
	})
	if err != nil && ctx.Err() == nil {
		e.config.Log.Warn("a migration that is too late could not be ended", "migration", r.ID, "err", err)
	}
}

// open tells whether a schedule's windows and lockouts let work run. What cannot be read
// is refused before it is kept, and lets nothing run.
func open(s model.Schedule, now time.Time) bool {
	windows, lockouts, err := parsed(s)
	return err == nil && schedule.Allowed(now.Local(), windows, lockouts)
}

// opens is when work may run next, for people.
func opens(s model.Schedule, now time.Time) string {
	windows, lockouts, err := parsed(s)
	if err != nil {
		return "never: " + err.Error()
	}
	next := schedule.NextAllowed(now.Local(), windows, lockouts)
	if next.IsZero() {
		return "never: its lockouts leave nothing of its windows"
	}
	return next.Format(time.RFC3339)
}

func parsed(s model.Schedule) (windows, lockouts []week.Window, err error) {
	windows, err = schedule.Parse(s.Windows)
	if err != nil {
		return nil, nil, err
	}
	lockouts, err = schedule.Parse(s.Lockouts)
	return windows, lockouts, err
}
