// Package pipeline moves one guest: FETCH, FLATTEN, INSPECT, PLAN, FIX, CONVERT,
// TEST. The order is one list; stages are skipped, never reordered. Package
// pipeline alone joins sources, fixers, targets and testers.
//
// Stage: one step of a migration. Migration: the record of one guest's move,
// saved after each stage. Run: a migration at work in this process.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/transfer"
)

// Errors that tell how a migration ended short of a proof.
var (
	ErrBlocked   = errors.New("blocked")    // a concern forbids it
	ErrNotProved = errors.New("not proved") // converted, and the boot proof failed
)

// Event is what a run tells while it works.
type Event struct {
	Stage    string
	State    State              // when the stage's state changed
	Text     string             // what is going on, for people
	Progress *transfer.Progress // of a copy
	Disk     int                // that the progress is of
	Took     time.Duration
}

// Run is a migration at work in this process. Its folder holds the record, the
// work files, and the results.
type Run struct {
	*Migration
	Folder string

	log      *slog.Logger
	tell     func(Event)
	copier   transfer.Copier
	reader   transfer.Parallel // that verifies
	engine   engineFunc
	keys     *guest.Keyring
	packaged bool                        // libguestfs is in this build
	noDirect func(context.Context) error // why the direct engine does not work here
	probed   func() error                // its result, once the run has begun to find it out
	beside   sync.WaitGroup              // what nobody waits for but the end
	noMapper func() error                // why the direct engine shows no volumes in several pieces
	machines map[string]hypervisor
	accel    func(context.Context) (accel.Choice, error)
	fixers   func() []fixer.Fixer
	version  string
	before   func(*Migration, string) error // each stage; may be nil
	lock     *os.File
	origin   Origin
	sources  []*disk.Source
	storage  *disk.Storage
	guest    guest.Guest
	closed   string   // why the direct engine does not show the guest whole; "" if it does
	replayed []string // devices whose journals an engine before the present one has replayed
}

// engineFunc opens the guest on a storage's disks.
type engineFunc func(ctx context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error)

// Go runs the stages that are not done, in order, and saves the record after
// each. Its error is the stage's that failed.
func (r *Run) Go(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.leave(context.WithoutCancel(ctx), err, context.Cause(ctx))) }()
	r.probeAhead(ctx)
	if err := r.ready(ctx); err != nil {
		return err
	}
	if r.Options.Until == "" { // its report finds them known
		r.beside.Go(func() { Versions(ctx, r.version) })
	}
	returned, err := r.givenBack(ctx)
	if err != nil {
		return err
	}
	if returned {
		if err := r.anew(ctx); err != nil {
			return err
		}
	}
	for _, s := range r.stages() {
		record := r.Stage(s.Name)
		switch record.State {
		case Skipped:
			r.tell(Event{Stage: s.Name, State: Skipped, Text: record.Reason})
			continue
		case Done:
			if err := r.again(ctx, s); err != nil {
				return err
			}
			continue
		}
		if r.before != nil {
			if err := r.before(r.Migration, s.Name); err != nil {
				return err
			}
		}
		if err := r.step(ctx, s, record); err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

// ready looks for the programs of all stages that are to run, and for what runs
// the tested machine: a migration that cannot be tested should not be found out
// after its copy.
func (r *Run) ready(ctx context.Context) error {
	var names []string
	for _, s := range r.stages() {
		if state := r.Stage(s.Name).State; state != Done && state != Skipped {
			names = append(names, s.programs...)
		}
	}
	slices.Sort(names)
	if err := proc.Ready(ctx, slices.Compact(names)...); err != nil {
		return err
	}
	if state := r.Stage("test").State; state == Done || state == Skipped {
		return nil
	}
	return r.machines[r.Options.With].ready(ctx, r.Options.Connect)
}

// again brings back a stage that an earlier process finished.
func (r *Run) again(ctx context.Context, s Stage) error {
	r.tell(Event{Stage: s.Name, State: Done, Text: "done before"})
	if s.resume == nil || r.Stage("convert").State == Done || r.Finished() { // what follows needs the result alone
		return nil
	}
	if err := s.resume(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

func (r *Run) step(ctx context.Context, s Stage, record *Record) error {
	if record.State != Pending && s.drop != nil {
		if err := s.drop(ctx); err != nil {
			return fmt.Errorf("%s: clear what was half made: %w", s.Name, err)
		}
	}
	*record = Record{Name: s.Name, State: Running, Began: time.Now().UTC()}
	if err := r.save(r.Folder); err != nil {
		return err
	}
	r.tell(Event{Stage: s.Name, State: Running, Text: s.Does})
	err := s.run(ctx)
	if why := context.Cause(ctx); err != nil && why != nil && !errors.Is(err, why) { // what a stage stands on ends with it
		err = fmt.Errorf("%w: %w", why, err)
	}
	record.Took, record.State = time.Since(record.Began), Done
	if err != nil {
		record.State, record.Reason = Failed, err.Error()
	}
	r.Leaving = r.Finished()
	r.log.Info("stage ended", "migration", r.Name, "stage", s.Name, "state", record.State, "took", record.Took)
	r.tell(Event{Stage: s.Name, State: record.State, Text: record.Reason, Took: record.Took})
	if saved := r.save(r.Folder); saved != nil {
		return errors.Join(err, saved)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// givenBack tells whether the source was given back since, maybe by a process that was
// killed over it.
func (r *Run) givenBack(ctx context.Context) (bool, error) {
	if r.Returned || !r.Leaving || r.Finished() || r.Stage("fetch").State != Done {
		return r.Returned, nil
	}
	err := r.same(ctx)
	if errors.Is(err, ErrSourceChanged) {
		return true, nil
	}
	return false, err
}

// anew forgets what was made of a source that was given back since.
func (r *Run) anew(ctx context.Context) error {
	r.log.Info("the source was given back since: beginning anew", "migration", r.Name)
	if err := errors.Join(r.dropTargets(), os.RemoveAll(r.work("")), os.MkdirAll(r.work(""), 0o755)); err != nil {
		return err
	}
	m := r.Migration
	for i, s := range m.Stages {
		if s.State != Skipped {
			m.Stages[i] = Record{Name: s.Name, State: Pending}
		}
	}
	m.Facts, m.Fixed, m.Plan, m.Undo, m.Again, m.Expect, m.Domain, m.Outcome = nil, nil, nil, nil, nil, nil, nil, nil
	m.Checks, m.Carried, m.Returned, m.Leaving = Checks{}, nil, false, false
	return r.save(r.Folder)
}

func (r *Run) work(name string) string { return filepath.Join(r.Folder, workFolder, name) }
