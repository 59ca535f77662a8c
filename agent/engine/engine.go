// Package engine keeps migrations as jobs that outlive every crash, and has them run
// by one appliance at a time. It is built on NATS JetStream, embedded in this process
// unless several appliances share one.
//
// Record: what is kept of a migration; what the API shows of it is a part of it. Task:
// what is to be done with a migration next. Owner: the appliance that does it. Epoch:
// counts the owners, so that one that was replaced cannot write any more. Lease: how
// long an appliance may go on that is not heard of.
//
// A record is one value in a bucket, replaced only as long as nobody else has replaced
// it meanwhile. Every appliance watches the bucket, and that is its doorbell: it sees
// each change, and takes what it may take. A queue of messages would hand a migration
// to an appliance that does not reach its disks, and knows no priorities.
//
// The record here is control state. What was done with a guest is in its folder, and
// that is what a migration goes on from.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
)

// Config is what an engine is opened with.
type Config struct {
	State    string // folder of this appliance's own; made if it is not there
	Name     string // of the appliance, for people
	Version  string // of the program
	Storages []string
	Servers  []string       // of vSphere
	Capacity int            // migrations at once
	Limits   map[string]int // at once on all appliances together, by what they use: see Uses
	Lease    time.Duration
	Audit    time.Duration // how long what was done is kept; as long as there is room if zero
	Keep     Keep          // how long what has ended is listed
	// Now is the clock by which that is old; time.Now if nil.
	Now   func() time.Time
	Shape Shape
	// Explain says in other words why an engine elsewhere is not reached; may be nil.
	Explain func(error) error
	Worker  Worker
	Log     *slog.Logger
}

// Worker does what a migration's task asks for. It returns when the task has come to
// its end or ctx has, with its cause, and then nothing that it began goes on.
type Worker interface {
	Work(ctx context.Context, j Job) (Result, error)
}

// Job is a task in its owner's hands.
type Job struct {
	Record
	// Tell takes what is new. It does not block for long.
	Tell func(Update)
	// Lease is until when the owner may go on. What works for it must end by itself
	// then, whatever has become of the owner.
	Lease func() time.Time
}

// Update is what a worker has to tell; what is zero has not changed.
type Update struct {
	Stages   []model.Stage
	Plan     model.PlanSummary
	Folder   model.Place
	Progress model.Progress
	Text     string
}

// Result is how a task ended that came to its end.
type Result struct {
	Verdict  model.Verdict
	Held     bool // the plan waits to be approved
	Verified []model.Verified
}

// Causes with which the context of a Worker's task ends.
var (
	ErrPaused    = errors.New("paused")
	ErrCancelled = errors.New("cancelled")
	ErrClosed    = errors.New("its window has closed")
	ErrShutdown  = errors.New("the appliance stops")
	ErrLease     = errors.New("the appliance was not heard of for too long, and another may have taken over")
	ErrFenced    = errors.New("another appliance has taken over")
)

// Engine is an opened engine. It may be used by many at once.
type Engine struct {
	config  Config
	id      string // of this appliance
	lock    *os.File
	bus     *bus
	table   table
	nodes   nodes
	batches batches
	events  chan told
	wake    chan struct{}
	done    chan struct{} // closed when the loops are to end
	cancel  context.CancelCauseFunc
	closing func() error
	group   sync.WaitGroup // loops
	working sync.WaitGroup // places that are held for tasks

	mu      sync.Mutex
	running map[string]*task
	reach   attached  // what this appliance reaches
	stopped bool      // no task is begun any more
	beaten  time.Time // when the last heartbeat that arrived was sent
}

// task is a task that runs here.
type task struct {
	epoch  uint64
	cancel context.CancelCauseFunc
}

// Open starts the engine, and with it the work on what waits. Close ends it.
func Open(ctx context.Context, c Config) (_ *Engine, err error) {
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockState(filepath.Join(c.State, "lock"))
	if err != nil {
		return nil, err
	}
	e := &Engine{config: c, reach: attached{storages: c.Storages}, lock: lock, wake: make(chan struct{}, 1), done: make(chan struct{}), events: make(chan told, 1024), running: map[string]*task{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.bus.close(), lock.Close())
		}
	}()
	if e.id, err = Identity(c.State); err != nil {
		return nil, err
	}
	if e.bus, err = openBus(ctx, c, e.id); err != nil {
		return nil, err
	}
	e.start()
	return e, e.caughtUp(ctx)
}

// start begins the loops. They end with Close.
func (e *Engine) start() {
	ctx, cancel := context.WithCancelCause(context.Background())
	e.cancel, e.closing = cancel, sync.OnceValue(e.close)
	e.table.init()
	e.nodes.init()
	e.batches.init()
	for _, loop := range []func(context.Context){
		e.follow, e.listen, e.publish, e.beat, e.schedule, e.followBatches, e.sweepBatches, e.tidy,
	} {
		e.group.Go(func() { loop(ctx) })
	}
}

// caughtUp waits until all that is kept was seen.
func (e *Engine) caughtUp(ctx context.Context) error {
	for _, done := range []chan struct{}{e.table.complete, e.nodes.complete} {
		select {
		case <-done:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), e.Close())
		}
	}
	e.ring()
	return nil
}

// Close stops what runs here, which is gone on with when the engine is opened again,
// or by another appliance. Closing twice is harmless.
func (e *Engine) Close() error { return e.closing() }

func (e *Engine) close() error {
	e.stop()
	e.working.Wait()
	close(e.done)
	e.cancel(ErrShutdown)
	e.group.Wait()
	return errors.Join(e.bus.close(), e.lock.Close())
}

// stop ends every task here, and has no other one begin: those that were stopped wait
// for a turn again.
func (e *Engine) stop() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.stopAll(ErrShutdown)
}

// stopAll ends every task here, with a cause.
func (e *Engine) stopAll(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.running {
		t.cancel(cause)
	}
}

// ring has the engine look what it may take.
func (e *Engine) ring() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// ID is this appliance's.
func (e *Engine) ID() string { return e.id }

// Ready tells whether what is kept can be read and written.
func (e *Engine) Ready(ctx context.Context) error {
	if _, err := e.bus.jobs.Status(ctx); err != nil {
		return fmt.Errorf("the store of migrations does not answer: %w", err)
	}
	return nil
}
