package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/problem"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
)

// runnerName is by what a process knows that it is a runner.
const runnerName = "hyper2kvm-runner"

// Serve plays the runner, if this process was started as one. Programs that run an
// engine call it first of all. Guests come from vSphere through v, which may be nil.
func Serve(v VSphere) (status int, played bool) {
	if os.Args[0] != runnerName {
		return 0, false
	}
	conn, err := net.FileConn(proc.Handed(0, "agent"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	if err := serve(conn, v); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// errStop is what the agent asked for.
var errStop = errors.New("stopped by the agent")

func serve(conn net.Conn, v VSphere) error {
	in := json.NewDecoder(conn)
	var o order
	if err := in.Decode(&o); err != nil {
		return fmt.Errorf("read what is to be done: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	lease := newLease(o.Lease, o.Group)
	go obey(in, lease, cancel)
	out := &speaker{out: json.NewEncoder(conn)}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	result, err := o.do(proc.WithLogger(ctx, log), v, log, out.tell)
	e := ended(ctx, result, err)
	if e.Problem != nil && v != nil {
		e.Problem.Code = cmp.Or(v.Code(err), e.Problem.Code)
	}
	return out.say(report{End: e})
}

// obey does what the agent says. An agent that is gone has no children.
func obey(in *json.Decoder, l *lease, cancel context.CancelCauseFunc) {
	for {
		var w word
		if err := in.Decode(&w); err != nil {
			l.end("the agent is gone")
		}
		if w.Stop {
			cancel(errStop)
		}
		if w.Lease > 0 {
			l.renew(w.Lease)
		}
	}
}

// speaker tells the agent what happens.
type speaker struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (s *speaker) say(r report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Encode(r)
}

// tell tells what is new. An agent that does not hear it is gone, which obey sees.
func (s *speaker) tell(u engine.Update) {
	_ = s.say(report{Update: &u})
}

// ended is how a task ended.
func ended(ctx context.Context, result engine.Result, err error) *end {
	switch {
	case err == nil:
		return &end{Result: result}
	case onlyHeld(err):
		return &end{Result: engine.Result{Held: true}}
	case errors.Is(context.Cause(ctx), errStop):
		return &end{Stopped: true}
	case errors.Is(err, pipeline.ErrBusy):
		return &end{Occupied: true}
	}
	p := problem.Of(err)
	if errors.Is(err, errHook) {
		p.Code = "hook-failed"
	}
	return &end{Result: result, Problem: &p}
}

// do does the task.
func (o order) do(ctx context.Context, v VSphere, log *slog.Logger, tell func(engine.Update)) (engine.Result, error) {
	switch o.Task {
	case engine.Migrate:
		return o.migrate(ctx, v, log, tell)
	case engine.Clear:
		return engine.Result{}, o.clear(ctx, v, log)
	}
	config, err := o.config(v, log, tell)
	if err != nil {
		return engine.Result{}, err
	}
	r, err := pipeline.Reopen(config)
	if err != nil {
		return engine.Result{}, err
	}
	result, err := o.further(ctx, r)
	return result, errors.Join(err, r.Close())
}

// further does something with a result that is there.
func (o order) further(ctx context.Context, r *pipeline.Run) (engine.Result, error) {
	if r.ID != o.ID {
		return engine.Result{}, fmt.Errorf("%w: %s holds another migration", pipeline.ErrRecord, o.Folder)
	}
	switch o.Task {
	case engine.Undo:
		if !r.Undone {
			if err := r.UndoAll(ctx); err != nil {
				return engine.Result{}, err
			}
		}
		return engine.Result{Verdict: model.VerdictUndone}, r.WriteReport(ctx)
	case engine.Verify:
		list, err := r.Verify(ctx, o.Args.AgainstSource)
		return engine.Result{Verified: verified(list)}, err
	case engine.Test:
		err := r.Retest(ctx, tester(string(o.Args.Test.With)), o.Args.Test.Connect)
		return engine.Result{Verdict: model.VerdictProved}, errors.Join(err, r.WriteReport(context.WithoutCancel(ctx)))
	}
	return engine.Result{}, fmt.Errorf("there is no task %q", o.Task)
}

func verified(list []pipeline.Verified) (all []model.Verified) {
	for _, v := range list {
		all = append(all, model.Verified{Path: v.Path, Size: v.Size, Read: v.Read, Differs: v.Differs})
	}
	return all
}

// config is what a run of the order is made with.
func (o order) config(v VSphere, log *slog.Logger, tell func(engine.Update)) (pipeline.Config, error) {
	c := pipeline.Config{Folder: o.Folder, Name: o.Name, Version: o.Version, Log: log, ID: o.ID}
	for _, text := range o.Limits {
		l, err := transfer.ParseLimit(text)
		if err != nil {
			return c, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		c.Limits = append(c.Limits, l)
	}
	var keys []guest.Key
	for _, k := range o.Keys {
		g := guest.Key{For: k.For}
		for _, s := range k.Secrets {
			g.Secrets = append(g.Secrets, s)
		}
		keys = append(keys, g)
	}
	if len(keys) > 0 {
		c.Keys = guest.NewKeyring(keys)
	}
	return c, o.from(&c, v, tell)
}

// from has the guest come from a VM, if it is one.
func (o order) from(c *pipeline.Config, v VSphere, tell func(engine.Update)) (err error) {
	switch {
	case len(o.Disks) > 0:
		c.Origin = pipeline.Devices(o.Name, o.Disks)
		return nil
	case o.VM == nil:
		return nil
	case v == nil:
		return errNoVSphere
	}
	vm := *o.VM
	vm.Limits = c.Limits
	c.Origin, err = v.Origin(vm, o.ID, o.Folder, c.Log, func(text string) { tell(engine.Update{Text: text}) })
	return err
}

// errHeld is a run that waits for the approval of its plan.
var errHeld = errors.New("the plan waits to be approved")

// onlyHeld tells of such a run whose source is as it was found: where that went wrong,
// somebody has to know.
func onlyHeld(err error) bool { return errors.Is(err, errHeld) && err.Error() == errHeld.Error() }

// migrate runs the pipeline, or goes on with it. One that came to its end before, and
// of which that could not be told, is told of now.
func (o order) migrate(ctx context.Context, v VSphere, log *slog.Logger, tell func(engine.Update)) (engine.Result, error) {
	m, err := pipeline.LoadMigration(o.Folder)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return engine.Result{}, err
	case err == nil && m.ID != o.ID:
		return engine.Result{}, fmt.Errorf("%w: %s holds another migration; choose another name, or remove that folder", pipeline.ErrRecord, o.Folder)
	case err == nil && m.Finished() && !m.Leaving:
		tell(engine.Update{Stages: stages(m), Plan: summary(m)})
		h, err := newHooked(o, log)
		if err == nil {
			err = h.after(ctx, m)
		}
		return engine.Result{Verdict: verdict(m)}, err
	}
	config, err := o.config(v, log, tell)
	if err != nil {
		return engine.Result{}, err
	}
	h, err := newHooked(o, log)
	if err != nil {
		return engine.Result{}, err
	}
	t := &reporter{tell: tell}
	config.Tell = t.event
	config.Before = func(m *pipeline.Migration, stage string) error {
		if err := o.before(m, stage); err != nil {
			return err
		}
		return h.before(ctx, m, stage)
	}
	r, err := pipeline.Open(config, o.Options)
	if err != nil {
		return engine.Result{}, err
	}
	t.run = r
	if err = r.Go(ctx); err == nil {
		err = h.after(ctx, r.Migration)
	}
	tell(engine.Update{Stages: stages(r.Migration), Plan: summary(r.Migration)})
	if !errors.Is(err, errHeld) && !errors.Is(context.Cause(ctx), errStop) {
		err = errors.Join(err, r.WriteReport(context.WithoutCancel(ctx)))
	}
	return engine.Result{Verdict: verdict(r.Migration)}, errors.Join(err, r.Close())
}

// before holds a run whose plan is not approved, or is another than was.
func (o order) before(m *pipeline.Migration, stage string) error {
	if stage != "fix" || !o.Hold || m.Plan == nil || summary(m).Digest == o.Digest {
		return nil
	}
	return errHeld
}
