package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/schedule"
	"hyper2kvm/pipeline/week"
)

// Uses are what a migration takes a share of, as limits name it, and what whoever runs it
// must reach.
func Uses(s model.Spec) []string {
	storages, servers := []string{s.Source.Storage, s.Target.Storage}, []string{s.Source.Vsphere.Server}
	for _, p := range s.AllowFolders {
		storages = append(storages, p.Storage)
	}
	uses := map[string]bool{}
	for _, use := range offers(storages, servers) {
		uses[use] = true
	}
	return slices.Sorted(maps.Keys(uses))
}

// Kinds of what a migration uses, before their names.
const (
	storageUse = "storage:"
	serverUse  = "vsphere:"
)

// offers are storages and vSphere servers by which Uses are met.
func offers(storages, servers []string) (list []string) {
	for _, name := range storages {
		if name != "" { // what makes nothing may have no target
			list = append(list, storageUse+name)
		}
	}
	for _, name := range servers {
		if name != "" {
			list = append(list, serverUse+name)
		}
	}
	return list
}

// unreached says what of some uses nobody reaches.
func unreached(uses []string) string {
	var storages, servers []string
	for _, use := range uses {
		if name, ok := strings.CutPrefix(use, serverUse); ok {
			servers = append(servers, name)
			continue
		}
		storages = append(storages, strings.TrimPrefix(use, storageUse))
	}
	text := "no appliance that is there reaches its storages: " + strings.Join(storages, ", ")
	if len(servers) > 0 {
		text += "; and has in its settings the vSphere server " + strings.Join(servers, ", ")
	}
	return text
}

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
	if e.full() || !within(Uses(r.Spec), e.offers()) {
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

// offers are what this appliance reaches.
func (e *Engine) offers() []string { return offers(e.config.Storages, e.config.Servers) }

func (e *Engine) full() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stopped || len(e.running) >= e.config.Capacity
}

// waits tells what a queued record waits for; "" if for nothing but an appliance.
func (e *Engine) waits(r Record) string {
	now, s := time.Now(), r.Spec.Schedule
	switch {
	case now.Before(r.NotBefore):
		return "it is tried again at " + r.NotBefore.Format(time.RFC3339)
	case !within(Uses(r.Spec), e.offers()) && !e.nodes.reached(Uses(r.Spec), e.config.Lease):
		return unreached(Uses(r.Spec))
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
		limit, ok := e.config.Limits[use]
		if ok && e.others(r, before, func(o *seen) bool { return slices.Contains(Uses(o.Spec), use) }) >= limit {
			return fmt.Sprintf("%d migrations at once may use %s, and that many do", limit, use)
		}
	}
	if r.AtOnce > 0 && e.others(r, before, func(o *seen) bool { return o.Batch == r.Batch }) >= r.AtOnce {
		return fmt.Sprintf("%d migrations of the batch %s may run at once, and that many do", r.AtOnce, r.Batch)
	}
	return ""
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
