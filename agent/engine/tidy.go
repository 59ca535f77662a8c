package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"hyper2kvm/agent/auth"
)

// Keep is how long what has ended is listed; a bound that is zero is none. What a
// migration has made in its folder stays for ever.
type Keep struct {
	For   time.Duration // since it last changed
	Count int           // of those that have ended; the oldest go first
}

// Of tidying: how often it is done, and what is left alone since it may be of a request
// that is being done now.
const (
	tidied = time.Hour
	young  = time.Hour
)

// tidy forgets what is old, and takes away what nobody asks for any more, at the start
// and then again and again until ctx ends. An appliance that keeps nothing itself leaves
// that to those that do.
func (e *Engine) tidy(ctx context.Context) {
	if e.config.Shape.URL != "" && !e.config.Shape.External {
		return
	}
	select {
	case <-e.table.complete:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(tidied)
	defer tick.Stop()
	for {
		now := e.config.now()
		if err := errors.Join(e.forgetOld(ctx, now), e.sweepKept(ctx, now)); err != nil && ctx.Err() == nil {
			e.config.Log.Warn("not all that is old was forgotten", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// forgetOld forgets migrations that ended long ago, those that are too many, and the
// batches of which nothing is left. One stays that another one waits for, or that its
// batch would begin again.
func (e *Engine) forgetOld(ctx context.Context, now time.Time) (err error) {
	needed := e.needed()
	for i, r := range e.endedLast() {
		old := e.config.Keep.For > 0 && now.Sub(r.Updated) > e.config.Keep.For
		over := e.config.Keep.Count > 0 && i >= e.config.Keep.Count
		if !old && !over || needed[r.ID] || !e.batches.begun(r.Batch) {
			continue
		}
		forgot := e.Forget(ctx, r.ID, r.Revision)
		if forgot == nil {
			e.config.Log.Info("forgotten, since it ended long ago", "migration", r.ID, "name", r.Name, "state", r.State, "ended", r.Updated)
		} else if !errors.Is(forgot, ErrUnknown) && !errors.Is(forgot, ErrChanged) { // another appliance was quicker, or somebody retries it
			err = errors.Join(err, forgot)
		}
	}
	return errors.Join(err, e.forgetBatches(ctx, now))
}

// endedLast are the migrations that have ended, the last one first.
func (e *Engine) endedLast() []seen {
	ended := slices.DeleteFunc(e.table.all(), func(r seen) bool { return !r.ended() })
	slices.SortStableFunc(ended, func(a, b seen) int { return b.Updated.Compare(a.Updated) })
	return ended
}

// needed are the migrations that others come after.
func (e *Engine) needed() map[string]bool {
	all := map[string]bool{}
	for _, r := range e.table.due() {
		for _, id := range r.Spec.Schedule.After {
			all[id] = true
		}
	}
	return all
}

// begun tells whether a batch begins no migration any more.
func (b *batches) begun(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept, ok := b.list[name]
	return !ok || kept.Submitted
}

func (e *Engine) forgetBatches(ctx context.Context, now time.Time) (err error) {
	if e.config.Keep == (Keep{}) {
		return nil
	}
	for _, b := range e.batches.all() {
		if !b.Submitted || b.Pending != "" || now.Sub(b.Created) < max(e.config.Keep.For, young) || slices.ContainsFunc(b.Members, e.listed) {
			continue
		}
		if forgot := e.States().Delete(ctx, batchPrefix+b.Name, b.revision); !errors.Is(forgot, auth.ErrChanged) {
			err = errors.Join(err, forgot)
		}
	}
	return err
}

func (e *Engine) listed(m Member) bool {
	_, ok := e.table.get(m.ID)
	return ok
}
