package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// pace is how long something is tried, and how long is waited in between.
type pace struct {
	most        time.Duration // from the first failure on
	first, last time.Duration // waits: each is twice the one before
	stall       time.Duration // without a byte, after which a connection is given up
}

// usual is the pace of reads from a server. A vCenter that restarts is away for longer:
// then another transport may still reach the hosts.
var usual = pace{most: 3 * time.Minute, first: 500 * time.Millisecond, last: 15 * time.Second, stall: time.Minute}

// passing is a failure that may pass by itself.
type passing struct {
	error
	after  time.Duration // that the server wants to be left alone
	within time.Duration // in which it passes, or not at all; zero: as the pace has it
}

// Unwrap is the failure.
func (p passing) Unwrap() error { return p.error }

// most is how long it may last.
func (p passing) most(pace pace) time.Duration {
	if p.within > 0 {
		return min(p.within, pace.most)
	}
	return pace.most
}

// try does something until it is done, fails in a way that will not pass, or has failed
// for too long.
func (p pace) try(ctx context.Context, do func(ctx context.Context) error) error {
	var since time.Time
	for wait, n := p.first, 1; ; wait, n = min(2*wait, p.last), n+1 {
		err := do(ctx)
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		fault, ok := errors.AsType[passing](err)
		if !ok {
			return err
		}
		if since.IsZero() {
			since = time.Now()
		}
		pause := max(wait/2+rand.N(wait/2+1), min(fault.after, p.last))
		if time.Since(since)+pause > fault.most(p) {
			return fmt.Errorf("tried %d times: %w", n, fault.error)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// sleep waits, or returns why the context ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
