package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// wave is a batch of some migrations.
func wave(name string, n, atOnce int) Batch {
	b := Batch{Name: name, By: "ops", AtOnce: atOnce}
	for i := range n {
		b.Members = append(b.Members, Member{ID: fmt.Sprintf("%s-m%03d", name, i), Name: fmt.Sprintf("m%03d", i), Spec: spec()})
	}
	return b
}

func begun(t *testing.T, e *Engine, b Batch) model.Batch {
	t.Helper()
	v, err := e.SubmitBatch(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// comes waits until a batch is such.
func comes(t *testing.T, e *Engine, name string, is func(model.Batch) bool) model.Batch {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for {
		b, err := e.Batch(t.Context(), name)
		if err == nil && is(b) {
			return b
		}
		if time.Now().After(limit) {
			t.Fatalf("the batch %s is %+v, %v", name, b, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func allIn(state model.State) func(model.Batch) bool {
	return func(b model.Batch) bool { return b.Counts[string(state)] == b.Total && b.Submitted && b.Pending == "" }
}

func TestABatchRunsAsManyAtOnceAsItSays(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 6, each: 5 * time.Millisecond}
	c := config(t, w)
	c.Capacity = 10
	e := opened(t, c)
	begun(t, e, wave("w", 12, 3))
	most := 0
	b := comes(t, e, "w", func(b model.Batch) bool {
		most = max(most, w.working())
		return allIn(model.StateDone)(b)
	})
	if most != 3 || b.Total != 12 || b.Migrations[0].Verdict != model.VerdictProved {
		t.Errorf("%d ran at once; it is %+v", most, b)
	}
	if r, _ := e.table.get("w-m000"); r.Batch != "w" || r.By != "ops" {
		t.Errorf("a migration of it is %+v", r.Migration)
	}
}

// A limit is for migrations: what is done with a result afterwards does not wait for
// room, and does not take it up and give it back again and again.
func TestWhatFollowsAMigrationWaitsForNoRoom(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 100, each: 10 * time.Millisecond}
	c := config(t, w)
	c.Limits = map[string]int{"storage:from": 1}
	e := opened(t, c)
	submitted(t, e, "first", spec())
	ends(t, e, "first", model.StateDone)
	submitted(t, e, "second", spec())
	ends(t, e, "second", model.StateRunning)
	before, _ := e.table.get("first")
	ordered(t, e, "first", Order{Kind: model.OperationKindVerify})
	ends(t, e, "first", model.StateDone)
	if after, _ := e.table.get("first"); after.Epoch != before.Epoch+1 {
		t.Errorf("verify was taken %d times", after.Epoch-before.Epoch)
	}
}

func (s *stepper) reach(t *testing.T, id string, n int) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); s.count(id) < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s has done %d steps, want %d", id, s.count(id), n)
		}
	}
}

func TestABatchIsSubmittedOnce(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	begun(t, e, wave("w", 3, 0))
	comes(t, e, "w", allIn(model.StateDone))
	begun(t, e, wave("w", 3, 0))
	if _, err := e.SubmitBatch(t.Context(), wave("w", 4, 0)); !errors.Is(err, ErrBatchExists) {
		t.Errorf("another one of its name: %v", err)
	}
	other := wave("v", 1, 0)
	other.Members[0].ID = "w-m001"
	if _, err := e.SubmitBatch(t.Context(), other); !errors.Is(err, ErrExists) {
		t.Errorf("with the ID of another's: %v", err)
	}
	if _, err := e.Batch(t.Context(), "v"); !errors.Is(err, ErrNoBatch) {
		t.Errorf("what was refused is kept: %v", err)
	}
	if n := len(e.List(func(*model.Migration) bool { return true }, "", 100).Items); n != 3 {
		t.Errorf("there are %d migrations", n)
	}
	if all := e.Batches(); len(all) != 1 || all[0].Migrations != nil || all[0].Counts["done"] != 3 {
		t.Errorf("the batches are %+v", all)
	}
}

func TestABatchIsPausedResumedAndForgotten(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 20, each: 5 * time.Millisecond}
	e := opened(t, config(t, w))
	begun(t, e, wave("w", 8, 2))
	w.reach(t, "w-m000", 3)
	order := func(o model.BatchOrder, key string) {
		t.Helper()
		if _, err := e.OrderBatch(t.Context(), "w", o, "ops", key); err != nil {
			t.Fatal(err)
		}
	}
	order(model.BatchOrderPause, "k1")
	order(model.BatchOrderPause, "k1")
	comes(t, e, "w", func(b model.Batch) bool { return b.Counts["paused"]+b.Counts["done"] == 8 && b.Pending == "" })
	if _, err := e.OrderBatch(t.Context(), "w", model.BatchOrderCancel, "ops", "k1"); !errors.Is(err, ErrReused) {
		t.Errorf("the same key for another order: %v", err)
	}
	if _, err := e.OrderBatch(t.Context(), "w", model.BatchOrderForget, "ops", ""); !errors.Is(err, ErrNotNow) {
		t.Errorf("forgotten while it is paused: %v", err)
	}
	order(model.BatchOrderResume, "k2")
	comes(t, e, "w", allIn(model.StateDone))
	if m, err := e.View(t.Context(), "w-m007"); err != nil || len(m.Operations) != 3 {
		t.Errorf("one that was paused once has the operations %+v, %v", m.Operations, err)
	}
	order(model.BatchOrderForget, "")
	for limit := time.Now().Add(20 * time.Second); len(e.List(func(*model.Migration) bool { return true }, "", 100).Items)+len(e.Batches()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it is not forgotten")
		}
	}
	begun(t, e, wave("w", 2, 0)) // and its name is free
	comes(t, e, "w", allIn(model.StateDone))
}

func TestABatchIsGivenUpAndTriedAgain(t *testing.T) {
	t.Parallel()
	w := quick(t)
	e := opened(t, config(t, w))
	b := wave("w", 4, 0)
	for _, m := range b.Members[:2] {
		w.fail(m.ID, &Failure{model.Problem{Code: "blocked", Detail: "x"}})
	}
	begun(t, e, b)
	v := comes(t, e, "w", func(b model.Batch) bool { return b.Counts["failed"] == 2 && b.Counts["done"] == 2 })
	if v.Migrations[0].Problem != "blocked" {
		t.Errorf("it is %+v", v)
	}
	w.fail("w-m000", nil)
	if _, err := e.OrderBatch(t.Context(), "w", model.BatchOrderRetry, "ops", ""); err != nil {
		t.Fatal(err)
	}
	comes(t, e, "w", func(b model.Batch) bool { return b.Counts["failed"] == 1 && b.Counts["done"] == 3 && b.Pending == "" })
	w.fail("w-m001", nil)
	if _, err := e.OrderBatch(t.Context(), "w", model.BatchOrderCancel, "ops", ""); err != nil {
		t.Fatal(err)
	}
	comes(t, e, "w", func(b model.Batch) bool { return b.Counts["cancelled"] == 1 && b.Counts["done"] == 3 })
}

func TestTheExpectedOrderIsThatOfPrioritiesAndGroups(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	c.Capacity = 0
	e := opened(t, c)
	b := wave("w", 5, 0)
	b.Members[0].Spec.Schedule.After = []string{"w-m003"}
	b.Members[3].Spec.Schedule.After = []string{"w-m004"}
	b.Members[2].Spec.Schedule.Priority = 5
	order := func(v model.Batch) string {
		var list []string
		for _, m := range v.Migrations {
			list = append(list, m.Name[3:])
		}
		return strings.Join(list, "")
	}
	draft, err := e.DraftBatch(b)
	if err != nil || order(draft) != "24301" {
		t.Errorf("as it would be kept: %s, %v", order(draft), err)
	}
	begun(t, e, b)
	if v := comes(t, e, "w", allIn(model.StateQueued)); order(v) != "24301" {
		t.Errorf("the order is %s", order(v))
	}
}

// A batch of which only the record was written is begun by the next start.
func TestABatchThatWasOnlyNotedIsBegunByTheNextStart(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	e, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	b := wave("w", 3, 0)
	b.Version = recordVersion
	text, err := b.encode()
	if err := errors.Join(err, e.States().Create(t.Context(), batchPrefix+"w", text), e.Close()); err != nil {
		t.Fatal(err)
	}
	comes(t, opened(t, c), "w", allIn(model.StateDone))
}

// TestABatchThatIsHalfSubmittedIsCompleted kills an appliance while it begins a batch.
func TestABatchThatIsHalfSubmittedIsCompleted(t *testing.T) {
	t.Parallel()
	const n = 30
	halves := 0
	for round := range 3 {
		name := fmt.Sprintf("w%d", round)
		f, state := founded(t)
		p := played{State: state, Name: "a1", Lease: time.Second, Each: time.Millisecond, Capacity: 8, Folder: t.TempDir(), Steps: 1, Shape: Shape{Listen: freePort(t)}}
		a := p.start(t)
		watch := observer(t, f, p.Shape)
		there := func() (n int) {
			for _, r := range watch.table.all() {
				if r.Batch == name {
					n++
				}
			}
			return n
		}
		if err := json.NewEncoder(a.input).Encode(submission{name, n}); err != nil {
			t.Fatal(err)
		}
		for limit := time.Now().Add(30 * time.Second); there() < 3+round*8; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%d of %d migrations are there", there(), n)
			}
		}
		a.kill(t)
		at := there()
		if at < n {
			halves++
		}
		began := time.Now()
		p.start(t)
		comes(t, watch, name, func(b model.Batch) bool { return b.Submitted })
		t.Logf("it was killed with %d of %d begun, and completed %v after its next start", at, n, time.Since(began))
		v := comes(t, watch, name, allIn(model.StateDone))
		for _, m := range v.Migrations {
			r, _ := watch.table.get(m.ID)
			if len(r.Operations) != 1 || p.steps(m.ID) != 1 {
				t.Errorf("%s has the operations %+v and %d steps", m.ID, r.Operations, p.steps(m.ID))
			}
		}
		if v.Total != n {
			t.Errorf("the batch has %d migrations", v.Total)
		}
		if err := watch.Close(); err != nil { // while there is somebody to say so to
			t.Error(err)
		}
	}
	if halves < 2 {
		t.Errorf("it was killed in the middle %d times of 3", halves)
	}
}
