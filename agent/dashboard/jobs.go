package dashboard

import (
	"cmp"
	"context"
	"slices"
	"time"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
)

// How many migrations are read, and of those that have ended shown.
const (
	mostRunning = 20
	mostWaiting = 200
	mostEnded   = 50
	lastEnded   = 5
)

// events notes that something happens to migrations, until ctx ends.
func (w *Watcher) events(ctx context.Context, conn *client.Conn) {
	for _, err := range conn.Events(ctx, "", client.Now) {
		if err != nil {
			return // they are read from time to time all the same
		}
		w.mu.Lock()
		w.changed = true
		w.mu.Unlock()
		hint(w.poke)
	}
}

// jobs reads the migrations if something has happened to them, or nothing was told for
// long.
func (w *Watcher) jobs(ctx context.Context) {
	w.mu.Lock()
	changed := w.changed
	w.changed = false
	w.mu.Unlock()
	if !changed && time.Since(w.read) < rarely {
		return
	}
	ctx, cancel := within(ctx)
	defer cancel()
	if jobs, err := readJobs(ctx, w.conn); err == nil {
		w.read = time.Now()
		w.set(func(s *Status) { s.Jobs = jobs })
	}
}

func readJobs(ctx context.Context, conn *client.Conn) (j Jobs, err error) {
	own, err := ownID(ctx, conn)
	if err != nil {
		return j, err
	}
	running, err := conn.Page(ctx, model.ListMigrationsParams{Limit: mostRunning, State: []model.State{model.StateRunning}})
	if err != nil {
		return j, err
	}
	waiting, err := conn.Page(ctx, model.ListMigrationsParams{Limit: mostWaiting, State: []model.State{model.StateQueued, model.StatePlanned, model.StatePaused}})
	if err != nil {
		return j, err
	}
	ended, err := conn.Page(ctx, model.ListMigrationsParams{Limit: mostEnded, State: []model.State{model.StateDone, model.StateFailed, model.StateCancelled}})
	if err != nil {
		return j, err
	}
	j = Jobs{Running: jobsOf(running.Items, own), More: running.Next != "", Waiting: map[model.State]int{}, Uncounted: waiting.Next != ""}
	for _, m := range waiting.Items {
		j.Waiting[m.State]++
	}
	j.Ended = jobsOf(ended.Items, own)
	slices.SortStableFunc(j.Ended, func(a, b Job) int { return b.At.Compare(a.At) })
	j.Ended = j.Ended[:min(len(j.Ended), lastEnded)]
	return j, nil
}

// ownID is this appliance's.
func ownID(ctx context.Context, conn *client.Conn) (string, error) {
	all, err := conn.Appliances(ctx)
	for _, a := range all {
		if a.Self {
			return a.ID, nil
		}
	}
	return "", err
}

func jobsOf(list []model.Migration, own string) (jobs []Job) {
	for _, m := range list {
		j := Job{ID: m.ID, Name: cmp.Or(m.Name, m.ID), State: m.State, Verdict: m.Verdict, Done: m.Progress.Virtual, Total: m.Progress.Total, At: m.Updated.Local(), Why: m.Problem.Detail, Here: m.Appliance == own}
		for _, s := range m.Stages {
			if s.State == model.StageStateRunning {
				j.Stage = string(s.Name)
			}
		}
		jobs = append(jobs, j)
	}
	return jobs
}
