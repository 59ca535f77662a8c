package vsphere

import (
	"context"
	"errors"
	"sync"
	"time"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
)

// guardEvery is how often a VM is looked at while its disks are read. It is a variable
// for tests alone.
var guardEvery = 15 * time.Second

// guard watches that a VM's disks stay at rest while they are read. When they do not,
// what is read is of no use: every read ends, with the cause.
type guard struct {
	ctx  context.Context
	end  context.CancelCauseFunc
	over sync.WaitGroup
}

// watch begins to watch, until stop.
func watch(same func(context.Context) error) *guard {
	g := &guard{}
	g.ctx, g.end = context.WithCancelCause(context.Background())
	g.over.Go(func() {
		for tick := time.NewTicker(guardEvery); ; {
			select {
			case <-g.ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			if err := same(g.ctx); errors.Is(err, pipeline.ErrSourceChanged) {
				g.end(err)
			}
		}
	})
	return g
}

// stop ends the watch. It may be called of none.
func (g *guard) stop() {
	if g != nil {
		g.end(errors.New("the disk is closed"))
		g.over.Wait()
	}
}

// guarded is a disk whose reads end when it is not at rest any more.
type guarded struct {
	disk.Remote
	*guard
}

// Read implements disk.Remote.
func (r guarded) Read(ctx context.Context, p []byte, off int64) error {
	ctx, done := r.within(ctx)
	defer done()
	return r.Remote.Read(ctx, p, off)
}

// Extents implements disk.Remote.
func (r guarded) Extents(ctx context.Context, off, n int64) ([]disk.Allocation, error) {
	ctx, done := r.within(ctx)
	defer done()
	return r.Remote.Extents(ctx, off, n)
}

// within is a context that ends with the guard's too.
func (g *guard) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.ctx, func() { cancel(context.Cause(g.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}
