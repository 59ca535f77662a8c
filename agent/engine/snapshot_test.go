package engine

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
)

// TestAHubIsBackedUp, and what comes of it is an appliance by itself. A worker keeps
// nothing, and says where to ask.
func TestAHubIsBackedUp(t *testing.T) {
	f, list := hubAndWorkers(t)
	shape, err := secured(list[0].State, list[0].Shape)
	if err != nil {
		t.Fatal(err)
	}
	c := config(t, quick(t))
	c.State, c.Shape = list[0].State, shape
	hub := opened(t, c)
	submitted(t, hub, "web01", spec())
	was := ends(t, hub, "web01", model.StateDone)
	worker := observer(t, f, list[0].Shape)
	if _, err := worker.Snapshots(t.Context(), t.TempDir()); !errors.Is(err, ErrElsewhere) {
		t.Errorf("a worker's: %v", err)
	}
	snapshots, err := hub.Snapshots(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	alone := config(t, quick(t))
	if err := Restore(t.Context(), alone, snapshots); err != nil {
		t.Fatal(err)
	}
	e := opened(t, alone)
	if now := ends(t, e, "web01", model.StateDone); !cmp.Equal(now, was) {
		t.Errorf("it is another: %s", cmp.Diff(was, now))
	}
	snapshots[0].Stream = "OTHER"
	if err := Restore(t.Context(), config(t, quick(t)), snapshots); err == nil {
		t.Error("a stream is restored that nobody knows")
	}
}
