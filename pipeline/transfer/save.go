package transfer

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// syncEvery is how often a target is brought to stable storage while it is
	// copied, so that the end does not wait for all of it.
	syncEvery = 5 * time.Second
	// lastSave bounds the last checkpoint of a copy that ends early.
	lastSave = 30 * time.Second
)

// finished notes what is in the target.
func (c *copying) finished(r run, virtual int64) {
	c.virtual.Add(virtual)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh = append(c.fresh, r)
	if c.bytes += r.bytes; c.bytes >= c.budget.unsaved/2 {
		select {
		case c.kick <- struct{}{}:
		default: // one is due already
		}
	}
}

// save makes checkpoints when they are due, until the copy ends.
func (c *copying) save(ctx context.Context, ended <-chan struct{}) error {
	for {
		select {
		case <-c.kick:
			if err := c.checkpoint(ctx); err != nil {
				return err
			}
		case <-ended:
			return nil
		}
	}
}

// checkpoint has the journal tell of all that is in the target.
func (c *copying) checkpoint(ctx context.Context) error {
	c.mu.Lock()
	fresh, bytes := c.fresh, c.bytes
	c.fresh, c.bytes = nil, 0
	c.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	defer c.room.Release(bytes)
	if err := c.to.Flush(ctx); err != nil {
		return unwritten(err)
	}
	for _, r := range merge(fresh) {
		if err := c.journal.add(c.manifest, r.first, r.count); err != nil {
			return unwritten(err)
		}
	}
	return nil
}

// merge joins runs that follow one another.
func merge(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int { return int(a.first - b.first) })
	var merged []run
	for _, r := range runs {
		if n := len(merged); n > 0 && merged[n-1].first+merged[n-1].count == r.first {
			merged[n-1].count += r.count
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// syncNowAndThen keeps what a failing machine takes with it small.
func (c *copying) syncNowAndThen(ctx context.Context, ended <-chan struct{}) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := c.sync(ctx); err != nil {
				return err
			}
		case <-ended:
			return nil
		}
	}
}

// sync brings the target to stable storage before the journal that tells of it.
func (c *copying) sync(ctx context.Context) error {
	if err := errors.Join(c.to.Sync(ctx), c.manifest.f.Sync(), c.journal.sync()); err != nil {
		return unwritten(err)
	}
	return nil
}
