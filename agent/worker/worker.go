// Package worker does the tasks of migrations, each in a process of its own: one that
// is lost takes nothing with it, and all that it started can be ended with it.
//
// Runner: the process of one task. It is this very program, knows by its argv[0] what
// it is, is told what to do through a socket, and tells what it does through the same.
// It runs in a control group of its own where there may be one, and ends itself and
// all that it started when it has not heard from the agent for as long as the lease.
//
// What is kept of a migration is in its folder. A task that was interrupted, in
// whatever way, goes on from there.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/hooks"
	"hyper2kvm/agent/storage"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// Worker implements engine.Worker.
type Worker struct {
	Version  string
	Storages storage.Reached
	// VSphere and Server are for guests that come from there: Server finds a server of the
	// settings, and gives no password that it has refused, of which Refused takes note. All
	// may be nil.
	VSphere VSphere
	Server  func(ctx context.Context, name string) (Server, error)
	Refused func(s Server, text string)
	// Disks lends the disks that are attached; nil before they were looked at.
	Disks Disks
	// Secret opens a stored secret.
	Secret func(ctx context.Context, name string) (guest.Secret, error)
	// Plan is the plan that a migration was asked for with.
	Plan func(ctx context.Context, r engine.Record) ([]byte, error)
	// Scratch is the folder in which those look that have no target. What is in it is
	// worth nothing.
	Scratch string
	// Keep keeps small files of a migration's for every appliance to show.
	Keep func(ctx context.Context, migration string, files []engine.File) error
	// Hooks runs what is to run before and after stages.
	Hooks  hooks.Runner
	Groups *Groups
	Log    *slog.Logger
}

// grace is how long a runner may take to come to an end that it was asked for.
const grace = 30 * time.Second

// Work has a runner do a task.
func (w *Worker) Work(ctx context.Context, j engine.Job) (engine.Result, error) {
	o, err := w.order(ctx, j)
	if err != nil {
		return engine.Result{}, err
	}
	result, err := w.run(ctx, j, o)
	w.mind(o, err)
	if keeping := w.keepFiles(context.WithoutCancel(ctx), j, o.Folder); keeping != nil {
		w.Log.Warn("what the migration has made is not all kept", "migration", j.ID, "err", keeping)
	} else if err == nil && o.looks() {
		err = discard(w.VSphere, o.Folder, o.ID) // what it has found is kept
	}
	if j.Spec.Target.Storage == "" && ctx.Err() == nil {
		err = errors.Join(err, w.drop(o.Folder)) // tried again, it begins anew
	}
	return result, err
}

func (w *Worker) run(ctx context.Context, j engine.Job, o order) (result engine.Result, err error) {
	group, err := w.Groups.enter(j.ID)
	if err != nil {
		return engine.Result{}, err
	}
	defer func() { err = errors.Join(err, group.leave()) }()
	o.Group = group.path
	r, err := startRunner(ctx, group, o)
	if err != nil {
		return engine.Result{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	return r.follow(ctx, j)
}

// runner is a runner's process, from the outside.
type runner struct {
	server *proc.Server
	conn   net.Conn
	say    *json.Encoder
}

func startRunner(ctx context.Context, group group, o order) (*runner, error) {
	conn, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	s, err := proc.Start(ctx, proc.Service{Command: proc.Command{Name: runnerName, Args: []string{o.ID}}, Part: true, NoSocket: true, Files: []*os.File{theirs}, Group: group.folder})
	if err := errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r := &runner{s, conn, json.NewEncoder(conn)}
	if err := r.say.Encode(o); err != nil {
		return nil, errors.Join(fmt.Errorf("tell the runner what to do: %w", err), r.close())
	}
	return r, nil
}

// pair is a socket's two ends, of which the second is handed on.
func pair() (net.Conn, *os.File, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "runner"), os.NewFile(uintptr(ends[1]), "agent")
	conn, err := net.FileConn(ours)
	if err := errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

// follow hands on what a runner tells until it ends, and tells it how long it may go
// on and when it is to end.
func (r *runner) follow(ctx context.Context, j engine.Job) (engine.Result, error) {
	reports := make(chan report)
	go r.listen(reports)
	renew := time.NewTicker(time.Second)
	defer renew.Stop()
	stop, patience := ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case said, ok := <-reports:
			switch {
			case !ok:
				return engine.Result{}, r.lost(ctx)
			case said.Update != nil:
				j.Tell(*said.Update)
			case said.End != nil:
				return said.End.Result, said.End.err(ctx)
			}
		case <-renew.C:
			if err := r.say.Encode(word{Lease: time.Until(j.Lease())}); err != nil {
				continue // it is gone, and that is found out by reading
			}
		case <-stop:
			stop = nil
			if hard(ctx) || r.say.Encode(word{Stop: true}) != nil {
				return engine.Result{}, errors.Join(context.Cause(ctx), r.server.Kill())
			}
			patience = time.After(grace)
		case <-patience:
			return engine.Result{}, errors.Join(context.Cause(ctx), r.server.Kill())
		}
	}
}

// hard tells of a task that must not go on for another moment.
func hard(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, engine.ErrLease) || errors.Is(cause, engine.ErrFenced)
}

func (r *runner) listen(reports chan<- report) {
	defer close(reports)
	in := json.NewDecoder(r.conn)
	for {
		var said report
		if in.Decode(&said) != nil { // it has ended: how is told by its process
			return
		}
		reports <- said
		if said.End != nil {
			return
		}
	}
}

// lost is a runner that ended without saying how its task did.
func (r *runner) lost(ctx context.Context) error {
	if err := r.server.Kill(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	how := "it said nothing"
	if err := r.server.Err(); err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%w: %s", engine.ErrCrashed, how)
}

// close ends the process, if it still runs.
func (r *runner) close() error {
	return errors.Join(r.conn.Close(), r.server.Stop())
}

// err is the error of a task that ended so.
func (e end) err(ctx context.Context) error {
	switch {
	case e.Stopped && ctx.Err() != nil:
		return context.Cause(ctx)
	case e.Occupied:
		return engine.ErrOccupied
	case e.Problem != nil:
		return &engine.Failure{Problem: *e.Problem}
	case e.Stopped:
		return errors.New("the runner stopped, and nobody asked it to")
	}
	return nil
}
