package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// batches are all, as this appliance has seen them last.
type batches struct {
	mu       sync.Mutex
	list     map[string]Batch
	complete bool
	ours     map[string]bool // that this appliance was asked for
	wake     chan struct{}
}

func (b *batches) init() {
	b.list, b.ours, b.wake = map[string]Batch{}, map[string]bool{}, make(chan struct{}, 1)
}

func (b *batches) all() []Batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Collect(maps.Values(b.list))
	slices.SortFunc(list, func(a, b Batch) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

func (b *batches) put(kept Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.list[kept.Name].revision >= kept.revision {
		return
	}
	if !b.complete { // it was left by somebody who is gone
		kept.seen = time.Time{}
	}
	b.list[kept.Name] = kept
}

func (b *batches) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.list, name)
	delete(b.ours, name)
}

// keepOnly forgets what is not there any more.
func (b *batches) keepOnly(there map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.list, func(name string, _ Batch) bool { return !there[batchPrefix+name] })
	b.complete = true
}

// patienceForBatches is how long another appliance that was asked for a batch has for it.
const patienceForBatches = 5 * time.Second

// unfinished are the batches that this appliance is to work off.
func (b *batches) unfinished() (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, kept := range b.list {
		if (!kept.Submitted || kept.Pending != "") && (b.ours[name] || time.Since(kept.seen) > patienceForBatches) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// workOff has this appliance work off a batch that it was asked for.
func (e *Engine) workOff(b Batch) {
	e.batches.mu.Lock()
	e.batches.ours[b.Name] = true
	e.batches.mu.Unlock()
	e.batches.ring()
}

func (b *batches) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// followBatches takes over every change of a batch.
func (e *Engine) followBatches(ctx context.Context) {
	e.watch(ctx, e.bus.states, batchPrefix+">", e.takeBatch, func(there map[string]bool) {
		e.batches.keepOnly(there)
		e.batches.ring()
	})
}

func (e *Engine) takeBatch(entry jetstream.KeyValueEntry) {
	if entry.Operation() != jetstream.KeyValuePut {
		e.batches.remove(nameOfBatch(entry.Key()))
		return
	}
	b, err := decodeBatch(entry.Value(), entry.Revision())
	if err != nil {
		e.config.Log.Error("a batch cannot be read", "batch", nameOfBatch(entry.Key()), "err", err)
		return
	}
	e.batches.put(b)
	e.batches.ring()
}

// sweepBatches works off what is unfinished, until ctx ends.
func (e *Engine) sweepBatches(ctx context.Context) {
	tick := time.NewTicker(pauseBetween)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.batches.wake:
		case <-tick.C:
		}
		for _, name := range e.batches.unfinished() {
			if err := e.finishBatch(ctx, name); err != nil && ctx.Err() == nil && !errors.Is(err, ErrNoBatch) {
				e.config.Log.Warn("a batch could not be worked off, and is tried again", "batch", name, "err", err)
			}
		}
	}
}

// finishBatch does what is left of a batch: it begins those that are not there, and
// passes on what is pending. Whatever is done twice by it is done once.
func (e *Engine) finishBatch(ctx context.Context, name string) error {
	b, err := e.readBatch(ctx, name)
	if err != nil {
		return err
	}
	if !b.Submitted {
		if err := e.beginMembers(ctx, b); err != nil {
			return err
		}
		if b, err = e.changeBatch(ctx, name, func(b *Batch) error { b.Submitted = true; return nil }); err != nil {
			return err
		}
	}
	if b.Pending == "" {
		return nil
	}
	if err := e.passOn(ctx, b); err != nil {
		return err
	}
	if b.Pending == model.BatchOrderForget {
		err := e.States().Delete(ctx, batchPrefix+name, b.revision)
		if errors.Is(err, auth.ErrChanged) { // by another that works it off, which has come to the same end
			return nil
		}
		return err
	}
	_, err = e.changeBatch(ctx, name, func(now *Batch) error {
		if now.Ordered != b.Ordered {
			return errAsItIs
		}
		now.Pending = ""
		return nil
	})
	if errors.Is(err, errAsItIs) {
		return nil
	}
	return err
}

// beginMembers begins the migrations of a batch that are not there. One whose ID another
// has taken meanwhile stays out of it, and the batch tells that it is not there.
func (e *Engine) beginMembers(ctx context.Context, b Batch) error {
	for _, m := range b.Members {
		r := newRecord(m.ID, m.Spec, m.Name, b.By, batchKey(b.Name, "submit"), time.Now().UTC())
		r.Batch, r.AtOnce = b.Name, b.AtOnce
		_, err := e.keepNew(ctx, r)
		if errors.Is(err, ErrExists) || errors.Is(err, ErrReused) || errors.Is(err, ErrTooLarge) {
			e.config.Log.Error("a migration of a batch cannot be begun", "batch", b.Name, "migration", m.ID, "err", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// batchKey is by what a migration knows a request of its batch's. Keys of callers begin
// with how they have logged in.
func batchKey(name, what string) string { return "batch/" + name + "/" + what }

// passOn passes on what is asked of all to each that it can be asked of.
func (e *Engine) passOn(ctx context.Context, b Batch) error {
	key := batchKey(b.Name, fmt.Sprint(b.Ordered))
	for _, m := range b.Members {
		var err error
		if b.Pending == model.BatchOrderForget {
			err = e.Forget(ctx, m.ID, 0)
		} else {
			_, _, err = e.Order(ctx, m.ID, Order{Kind: model.OperationKind(b.Pending), By: b.OrderedBy, Key: key})
		}
		if err != nil && !errors.Is(err, ErrNotNow) && !errors.Is(err, ErrUnknown) {
			return err
		}
	}
	return nil
}
