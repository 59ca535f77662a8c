package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/problem"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/transfer"
)

// follower shows how a migration goes on an appliance, as a run here shows itself.
type follower struct {
	conn  *client.Conn
	shown *progress
	said  map[model.StageName]model.Stage
	state string // as it was told last
}

func (a *app) newFollower(c *client.Conn) *follower {
	f := &follower{conn: c, shown: newProgress(a.stderr), said: map[model.StageName]model.Stage{}}
	f.shown.together = true
	return f
}

// tell shows an event. What it says of stages may leave some out, so they are asked for.
func (f *follower) tell(ctx context.Context, e model.Event) {
	if e.Progress.Total > 0 && e.Stage.Name == "" && e.State == model.StateRunning {
		p := transferOf(e.Progress)
		f.shown.tell(pipeline.Event{Stage: "convert", State: pipeline.Running, Progress: &p})
		return
	}
	if e.Stage.Name == "" && e.Operation == "" && e.State == model.StateRunning && e.Problem.Code == "" {
		return
	}
	m, err := f.conn.Migration(ctx, e.Migration)
	if err != nil {
		return // whoever waits for the operation is told
	}
	f.migration(m)
}

func transferOf(p model.Progress) transfer.Progress {
	return transfer.Progress{Virtual: p.Virtual, Total: p.Total, Wire: p.Wire, Allocated: p.Allocated}
}

// migration shows what is new of a migration.
func (f *follower) migration(m model.Migration) {
	for _, s := range m.Stages {
		f.stage(f.said[s.Name], s)
		f.said[s.Name] = s
	}
	if text := stands(m); text != f.state {
		if f.state = text; text != "" {
			f.shown.mu.Lock()
			defer f.shown.mu.Unlock()
			f.shown.line("%-9s%s", strings.ToUpper(string(m.State)), text)
		}
	}
}

// stands is why a migration does not go on by itself; "" if it does.
func stands(m model.Migration) string {
	switch m.State {
	case model.StateQueued:
		return m.Why
	case model.StatePlanned:
		return fmt.Sprintf("the plan has %d changes and %d warnings, and waits: hyper2kvm approve %s", m.Plan.Changes, m.Plan.Warnings, m.ID)
	case model.StatePaused:
		return "it waits: hyper2kvm resume " + m.ID
	}
	return ""
}

// stage shows what became of a stage since it was shown last.
func (f *follower) stage(was, now model.Stage) {
	if was.State == now.State && was.Began.Equal(now.Began) || now.State == model.StageStatePending {
		return
	}
	name, ended := string(now.Name), now.State == model.StageStateDone || now.State == model.StageStateFailed
	if ended && (was.State != model.StageStateRunning || !was.Began.Equal(now.Began)) || now.State == model.StageStateRunning {
		f.shown.tell(pipeline.Event{Stage: name, State: pipeline.Running, Text: pipeline.Does(name)})
	}
	if now.State == model.StageStateRunning {
		return
	}
	took := max(time.Duration(float64(now.Took)*float64(time.Second)), 1) // 0 is of one that was done before
	f.shown.tell(pipeline.Event{Stage: name, State: pipeline.State(now.State), Text: now.Reason, Took: took})
}

// detached is the end of waiting for a migration that goes on.
type detached struct{ id string }

func (d detached) Error() string {
	return fmt.Sprintf("interrupted; %s goes on at the appliance: see hyper2kvm show %[1]s --follow, or hyper2kvm cancel %[1]s", d.id)
}

// Is makes it an interruption.
func (d detached) Is(target error) bool { return target == errInterrupted }

// await shows how an operation goes until it is done. Its problem is an error.
func (a *app) await(ctx context.Context, c *client.Conn, op model.Operation) (model.Operation, error) {
	f := a.newFollower(c)
	op, err := c.Await(ctx, op, func(e model.Event) { f.tell(ctx, e) })
	if errors.Is(err, errInterrupted) {
		return op, detached{op.Migration}
	}
	if err != nil {
		return op, err
	}
	if m, err := c.Migration(ctx, op.Migration); err == nil {
		f.migration(m)
	}
	if op.Problem.Code != "" {
		return op, &client.Refusal{Problem: op.Problem}
	}
	return op, nil
}

// kindOf is the kind of an error, also of one that an appliance has told.
func kindOf(err error) problem.Kind {
	r, ok := errors.AsType[*client.Refusal](err)
	if !ok {
		return problem.KindOf(err)
	}
	if _, ok := statuses[problem.Kind(r.Code)]; ok {
		return problem.Kind(r.Code)
	}
	if r.Status >= 500 || notInput[r.Code] {
		return problem.Failed
	}
	return problem.BadInput
}

// notInput are the codes of refusals that giving something else does not end.
var notInput = map[string]bool{"unauthenticated": true, "forbidden": true, "too-many": true, "too-late": true, "cancelled": true, "overtaken": true, "cross-origin": true}

// recorded is what the pipeline has noted of a migration at an appliance, as far as
// that is kept.
func recorded(ctx context.Context, c *client.Conn, v model.Migration) (m pipeline.Migration, err error) {
	m.Name = v.Name
	r, err := c.Download(ctx, v.ID, "migration.json", 0)
	if refusal, ok := errors.AsType[*client.Refusal](err); ok && refusal.Code == "not-there" {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	text, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// sumUpRemote is the summary of a migration at an appliance.
func (a *app) sumUpRemote(ctx context.Context, c *client.Conn, id string, failed error) error {
	v, err := c.Migration(ctx, id)
	if err != nil {
		return errors.Join(failed, err)
	}
	m, err := recorded(ctx, c, v)
	if err != nil {
		return errors.Join(failed, err)
	}
	files, err := c.Files(ctx, id)
	if err != nil {
		return errors.Join(failed, err)
	}
	at := func(path string) string { return v.Folder.Storage + ":" + v.Folder.Path + "/" + path }
	for i, d := range m.Disks {
		m.Disks[i].Path = at(d.Path[strings.LastIndexByte(d.Path, '/')+1:])
	}
	a.sumUp(&m, append(results(files, v.Name, at), pipeline.Result{What: "migration", Path: id}), failed)
	return failed
}

// results are the files that people look for first.
func results(files []model.File, name string, at func(string) string) (list []pipeline.Result) {
	for _, want := range []pipeline.Result{{What: "domain", Path: name + ".xml"}, {What: "report", Path: name + "-report.md"}, {What: "", Path: name + "-report.json"},
		{What: "screenshot", Path: name + "-boot.png"}, {What: "evidence", Path: "evidence/"}} {
		for _, f := range files {
			if f.Path == want.Path || strings.HasSuffix(want.Path, "/") && strings.HasPrefix(f.Path, want.Path) {
				list = append(list, pipeline.Result{What: want.What, Path: strings.TrimSuffix(at(want.Path), "/")})
				break
			}
		}
	}
	return list
}

// find is the ID of a migration that is named by it, or by a name that one has alone.
func find(ctx context.Context, c *client.Conn, text string) (string, error) {
	m, err := c.Migration(ctx, text)
	if r, ok := errors.AsType[*client.Refusal](err); !ok || r.Status != 404 && r.Status != 400 {
		return m.ID, err
	}
	var ids []string
	for m, failed := range c.Migrations(ctx, model.ListMigrationsParams{Name: text}) {
		if failed != nil {
			return "", cmp.Or(failed, err)
		}
		if m.Name == text {
			ids = append(ids, m.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", err
	case 1:
		return ids[0], nil
	}
	return "", fmt.Errorf("%w: %d migrations are called %s; write the ID of one: %s", errUsage, len(ids), text, strings.Join(ids[:min(len(ids), 5)], ", "))
}
