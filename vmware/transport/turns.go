package transport

import (
	"context"
	"sync"
)

// turns are had one after another by those who want the same.
type turns struct{ of sync.Map }

// wait waits for a turn, and returns what ends it.
func (t *turns) wait(ctx context.Context, of string) (end func(), err error) {
	had, _ := t.of.LoadOrStore(of, make(chan struct{}, 1))
	turn := had.(chan struct{})
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
