package engine

import (
	"context"
	"errors"
	"sync"
	"time"
)

// teller keeps what a worker tells, as soon as that can be kept: the worker does not
// wait for a store that is away.
type teller struct {
	engine *Engine
	record Record
	lost   context.CancelCauseFunc
	wake   chan struct{}

	mu      sync.Mutex
	pending Update    // told and not kept
	saved   time.Time // when progress was kept last
}

// saveProgress is how often a copy's progress is kept.
const saveProgress = 5 * time.Second

func newTeller(e *Engine, r Record, lost context.CancelCauseFunc) *teller {
	return &teller{engine: e, record: r, lost: lost, wake: make(chan struct{}, 1)}
}

// start begins to keep what is told, until the function that it returns is called.
// What is pending then is left.
func (t *teller) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what is told of the end of a cancelled task counts too
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (t *teller) tell(u Update) {
	if u.Text != "" || u.Progress.Total > 0 {
		t.engine.chat(t.record, u)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = t.pending.with(u)
	if u.Stages == nil && u.Plan.Digest == "" && u.Folder.Path == "" && (u.Progress.Total == 0 || time.Since(t.saved) < saveProgress) {
		return
	}
	t.saved = time.Now()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// with is an update and a newer one.
func (u Update) with(newer Update) Update {
	if newer.Stages != nil {
		u.Stages = newer.Stages
	}
	if newer.Plan.Digest != "" {
		u.Plan = newer.Plan
	}
	if newer.Folder.Path != "" {
		u.Folder = newer.Folder
	}
	if newer.Progress.Total > 0 {
		u.Progress = newer.Progress
	}
	return u
}

func (t *teller) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		for !t.flush(ctx) && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(pauseBetween / 8):
			}
		}
	}
}

// flush keeps what is pending, and tells whether it could.
func (t *teller) flush(ctx context.Context) bool {
	t.mu.Lock()
	u := t.pending
	t.pending = Update{}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, pauseBetween)
	defer cancel()
	_, err := t.engine.mine(ctx, t.record, func(r *Record) error {
		if !r.take(u) {
			return errAsItIs
		}
		return nil
	})
	if errors.Is(err, ErrFenced) {
		t.lost(ErrFenced)
		return true
	}
	if err == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = u.with(t.pending)
	return false
}

// take puts into the record what is new, and tells whether anything was.
func (r *Record) take(u Update) (changed bool) {
	before := digest(r)
	if u.Stages != nil {
		r.Stages = u.Stages
	}
	if u.Plan.Digest != "" && u.Plan.Digest != r.Plan.Digest {
		r.Plan = u.Plan // and whoever approved another plan has not approved this one
	}
	if u.Folder.Path != "" {
		r.Folder = u.Folder
	}
	if u.Progress.Total > 0 {
		r.Progress = u.Progress
	}
	return digest(r) != before
}
