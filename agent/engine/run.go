package engine

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hyper2kvm/agent/api/model"
)

// Failure is a task that failed in a way that is told to people.
type Failure struct{ model.Problem }

func (f *Failure) Error() string { return f.Detail }

// ErrCrashed is a worker that was lost; its task is tried again.
var ErrCrashed = errors.New("the worker was lost")

// ErrOccupied is a task that another process still works on, such as one that was
// begun by an appliance that was just replaced. It is tried again a little later.
var ErrOccupied = errors.New("another process still works on it")

// maxCrashes is how often in a row a worker may be lost; the guest may be what kills it.
const maxCrashes = 3

// pauseBetween is how long a task waits that is to be tried again.
const pauseBetween = 2 * time.Second

// begin runs a claimed record's task.
func (e *Engine) begin(r Record) {
	ctx, cancel := context.WithCancelCause(context.Background())
	e.occupy(r.ID, &task{epoch: r.Epoch, cancel: cancel})
	e.config.Log.Info("task begun", "migration", r.ID, "task", r.Task, "epoch", r.Epoch)
	go func() {
		defer cancel(nil)
		t := newTeller(e, r, cancel)
		stop := t.start(ctx)
		began := time.Now()
		result, err := e.config.Worker.Work(ctx, Job{Record: r.clone(), Tell: t.tell, Lease: e.leased})
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		e.config.Log.Info("task ended", "migration", r.ID, "task", r.Task, "epoch", r.Epoch, "took", time.Since(began), "err", err)
		stop()
		e.settle(r, t.pending, result, err)
		e.drop(r.ID)
		e.ring()
	}()
}

// settle keeps how a task ended. It goes on until that is kept, or somebody else has
// taken over; an appliance that stops leaves it to its next life.
func (e *Engine) settle(r Record, left Update, result Result, failed error) {
	if errors.Is(failed, ErrFenced) || errors.Is(failed, ErrLease) {
		return
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, pauseBetween) {
		ctx, cancel := context.WithTimeout(context.Background(), pauseBetween)
		_, err := e.mine(ctx, r, func(now *Record) error {
			now.take(left)
			now.settle(result, failed, time.Now().UTC())
			return nil
		})
		cancel()
		if err == nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrUnknown) {
			return
		}
		e.config.Log.Warn("how a task ended could not be kept", "migration", r.ID, "err", err)
		if errors.Is(failed, ErrShutdown) || time.Now().After(e.leased()) {
			return
		}
		time.Sleep(wait)
	}
}

// settle is what becomes of a record whose task ended.
func (r *Record) settle(result Result, failed error, now time.Time) {
	asked := r.Ask
	r.Ask = ""
	r.Progress = model.Progress{}
	var f *Failure
	switch {
	case asked == model.OperationKindCancel && failed != nil && r.Task == Migrate:
		r.clear()
	case failed == nil && result.Held && r.held():
		r.State, r.Crashes = model.StatePlanned, 0
	case failed == nil:
		r.succeed(result, now)
	case errors.Is(failed, ErrPaused):
		r.State = model.StatePaused
		r.endOnly(model.OperationKindPause, now)
	case errors.Is(failed, ErrClosed), errors.Is(failed, ErrShutdown), errors.Is(failed, ErrCancelled): // the last: it was asked for, and taken back
		r.queue()
	case errors.Is(failed, ErrOccupied):
		r.queue()
		r.NotBefore = now.Add(pauseBetween)
	case errors.As(failed, &f):
		r.fail(f.Problem)
	case errors.Is(failed, ErrCrashed) && r.Crashes+1 < maxCrashes:
		crashes := r.Crashes + 1
		r.queue()
		r.Crashes, r.NotBefore = crashes, now.Add(pauseBetween)
	default:
		r.fail(model.Problem{Code: "failed", Detail: failed.Error()})
	}
}

func (r *Record) succeed(result Result, now time.Time) {
	r.Crashes = 0
	switch r.Task {
	case Clear:
		r.State = model.StateCancelled
	case Verify:
		r.State = model.StateDone
	default:
		r.State, r.Verdict = model.StateDone, result.Verdict
	}
	r.Problem = model.Problem{}
	for i := range r.Operations {
		if o := &r.Operations[i]; !o.Done && missed(o.Kind, r.Task) {
			o.Done, o.Ended, o.Problem = true, now, conflict("overtaken", "the migration came to an end before")
			if r.Task == Clear {
				o.Problem = conflict("cancelled", "the migration was given up")
			}
		}
	}
	r.end(now, model.Problem{}, result.Verified)
}

// missed tells of an operation that a task's good end is not the end of.
func missed(kind model.OperationKind, t Task) bool {
	return (kind == model.OperationKindCancel) != (t == Clear) || kind == model.OperationKindPause
}

func conflict(code, detail string) model.Problem {
	return model.Problem{Type: blank, Title: http.StatusText(http.StatusConflict), Status: http.StatusConflict, Code: code, Detail: detail}
}

// blank is the type of a problem that needs no page of its own.
// Source: RFC 9457, section 4.2.1.
const blank = "about:blank"

// fail ends the record's task with a problem.
func (r *Record) fail(p model.Problem) {
	if p.Type == "" {
		p.Type = blank
	}
	if p.Status == 0 {
		p.Status = http.StatusUnprocessableEntity
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if p.Code == "" {
		p.Code = "failed"
	}
	r.State, r.Problem, r.Why = model.StateFailed, p, ""
	r.end(r.Updated, p, nil)
}

// endOnly marks operations of one kind as done.
func (r *Record) endOnly(kind model.OperationKind, now time.Time) {
	for i := range r.Operations {
		if o := &r.Operations[i]; o.Kind == kind && !o.Done {
			o.Done, o.Ended = true, now
		}
	}
}
