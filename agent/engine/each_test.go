package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// ear hears of the states that migrations come into.
type ear struct {
	mu    sync.Mutex
	heard []string
	again func(said string, try int) time.Duration
}

func (h *ear) hear(t *testing.T, n Numbered, try int) time.Duration {
	var v model.Event
	if err := json.Unmarshal(n.JSON, &v); err != nil {
		t.Error(err)
	}
	if v.Was == "" {
		return 0
	}
	said := fmt.Sprintf("%s %s", v.Migration, v.State)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, fmt.Sprintf("%s %d", said, try))
	return h.again(said, try)
}

func (h *ear) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.heard)
}

// follows has an ear hear what happens, until stop is called.
func (h *ear) follows(t *testing.T, e *Engine) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- e.Each(ctx, "desk", func(n Numbered, try int) time.Duration { return h.hear(t, n, try) })
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (h *ear) waits(t *testing.T, want ...string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !slices.Equal(h.all(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("heard are %q, want %q", h.all(), want)
		}
	}
}

// known waits until the store knows of one who asks under the name.
func known(t *testing.T, e *Engine) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := e.bus.events.Consumer(t.Context(), "desk"); err == nil {
			return
		} else if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
}

// kept are the events of a migration, once it is done and the last one is kept too.
func kept(t *testing.T, e *Engine, id string) (all []Numbered) {
	t.Helper()
	ends(t, e, id, model.StateDone)
	for n, err := range e.Follow(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, n); strings.Contains(string(n.JSON), `"state":"done"`) {
			break
		}
	}
	return all
}

// TestEachIsHandedOnUntilItIsTaken also where the engine was closed meanwhile, and what
// happens while nobody asks.
func TestEachIsHandedOnUntilItIsTaken(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	e := opened(t, c)
	h := &ear{again: func(said string, try int) time.Duration {
		if strings.HasSuffix(said, "running") && try < 3 {
			return 20 * time.Millisecond
		}
		return 0
	}}
	stop := h.follows(t, e)
	known(t, e)
	submitted(t, e, "m1", spec())
	want := []string{"m1 running 1", "m1 running 2", "m1 running 3", "m1 done 1"}
	h.waits(t, want...)
	stop()
	submitted(t, e, "m2", spec()) // which nobody hears of now
	kept(t, e, "m2")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = opened(t, c)
	defer h.follows(t, e)()
	h.waits(t, append(want, "m2 running 1", "m2 running 2", "m2 running 3", "m2 done 1")...)
}

// TestWhoeverTakesLongIsNotTakenForGone: what is worked on is not handed on again, though
// that takes longer than one who is killed is waited for.
func TestWhoeverTakesLongIsNotTakenForGone(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	h := &ear{again: func(said string, _ int) time.Duration {
		if strings.HasSuffix(said, "running") {
			time.Sleep(unanswered + 3*time.Second)
		}
		return 0
	}}
	defer h.follows(t, e)()
	known(t, e)
	submitted(t, e, "m1", spec())
	h.waits(t, "m1 running 1", "m1 done 1")
}

// TestAChangeOfWhichNothingWasToldIsHeardOf takes away the last events of a migration, as
// if the agent had been killed before they were kept, and opens the engine again.
func TestAChangeOfWhichNothingWasToldIsHeardOf(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	e := opened(t, c)
	h := &ear{again: func(string, int) time.Duration { return 0 }}
	stop := h.follows(t, e)
	known(t, e)
	stop() // while it is there, it would hear of them before they are gone
	submitted(t, e, "m1", spec())
	for _, n := range kept(t, e, "m1")[1:] {
		if err := e.bus.events.DeleteMsg(t.Context(), n.Number); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	defer h.follows(t, opened(t, c))()
	h.waits(t, "m1 done 1")
}
