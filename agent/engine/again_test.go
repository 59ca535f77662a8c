package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// TestAnEngineThatIsClosedBeginsNothing: what it has stopped waits for a turn, and the
// engine that closes does not take it. One that is slow to stop gives it the time to.
func TestAnEngineThatIsClosedBeginsNothing(t *testing.T) {
	e, err := Open(t.Context(), config(t, workerFunc(func(ctx context.Context, j Job) (Result, error) {
		<-ctx.Done()
		if j.ID == "slow" {
			time.Sleep(time.Second)
		}
		return Result{}, context.Cause(ctx)
	})))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"slow", "quick"} {
		submitted(t, e, id, spec())
		ends(t, e, id, model.StateRunning)
	}
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it has begun again what it stopped, and does not end")
	}
}

// workerFunc is a worker that is one function.
type workerFunc func(context.Context, Job) (Result, error)

func (f workerFunc) Work(ctx context.Context, j Job) (Result, error) { return f(ctx, j) }

func TestAnEngineThatIsOpenedAgainGoesOn(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 30, each: 10 * time.Millisecond}
	c := config(t, w)
	e, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrBusy) {
		t.Errorf("a second engine in the same folder: %v", err)
	}
	submitted(t, e, "web01", spec())
	awaited(t, e, "web01", func(model.Migration) bool { return w.count("web01") > 3 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if w.working() > 0 {
		t.Error("a task goes on after Close")
	}
	e = opened(t, c)
	ends(t, e, "web01", model.StateDone)
	if r, _ := e.table.get("web01"); r.Epoch != 2 || w.count("web01") != 30 || len(w.twice) > 0 {
		t.Errorf("epoch %d, %d steps, twice: %v", r.Epoch, w.count("web01"), w.twice)
	}
}
