package engine

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"hyper2kvm/agent/api/model"
)

func given(t *testing.T, e *Engine, id, key, plan string) (Record, error) {
	t.Helper()
	return e.SubmitWith(t.Context(), id, spec(), []byte(plan), "web01", "ops", key)
}

func TestAPlanIsKeptBesideItsMigration(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	large := strings.Repeat("a plan that is larger than a record may be ", maxRecord/16)
	r, err := given(t, e, "web01", "", large)
	if err != nil || r.GivenPlan != digestOfBytes([]byte(large)) {
		t.Fatalf("it is kept as %+v, %v", r, err)
	}
	ends(t, e, "web01", model.StateDone)
	if plan, err := e.Plan(t.Context(), r); err != nil || string(plan) != large {
		t.Errorf("its plan has %d bytes, %v", len(plan), err)
	}
	list, err := e.Kept(t.Context(), "web01")
	if err != nil || len(list) != 1 || list[0].Path != planFile(r.GivenPlan) || list[0].Size != int64(len(large)) {
		t.Errorf("kept are %+v, %v", list, err)
	}
	if err := e.Forget(t.Context(), "web01", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Plan(t.Context(), r); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("forgotten, its plan is read with %v", err)
	}
}

func TestARequestWithAPlanMayBeSentAgain(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	first, err := given(t, e, "", "key", "one")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := given(t, e, "", "key", "one"); err != nil || again.ID != first.ID {
		t.Errorf("again it is %s, %v", again.ID, err)
	}
	if _, err := given(t, e, "", "key", "two"); !errors.Is(err, ErrReused) {
		t.Errorf("with another plan: %v", err)
	}
	if _, err := given(t, e, first.ID, "", "two"); !errors.Is(err, ErrExists) {
		t.Errorf("the ID with another plan: %v", err)
	}
	if _, err := e.Submit(t.Context(), "", spec(), "web01", "ops", "key"); !errors.Is(err, ErrReused) {
		t.Errorf("without a plan: %v", err)
	}
	if plan, err := e.Plan(t.Context(), first); err != nil || string(plan) != "one" {
		t.Errorf("its plan is %q, %v", plan, err)
	}
}

// TestOfManyRequestsForOneIDTheOneThatIsKeptHasItsPlan sends them all at once.
func TestOfManyRequestsForOneIDTheOneThatIsKeptHasItsPlan(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	var all sync.WaitGroup
	kept := make(chan Record, 8)
	for i := range cap(kept) {
		all.Go(func() {
			if r, err := given(t, e, "web01", "", strings.Repeat("x", i+1)); err == nil {
				kept <- r
			} else if !errors.Is(err, ErrExists) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(kept)
	records := slices.Collect(func(yield func(Record) bool) {
		for r := range kept {
			yield(r)
		}
	})
	if len(records) != 1 {
		t.Fatalf("%d were kept", len(records))
	}
	if plan, err := e.Plan(t.Context(), records[0]); err != nil || digestOfBytes(plan) != records[0].GivenPlan {
		t.Errorf("its plan is %q, %v", plan, err)
	}
}

func TestAPlanThatIsAnotherIsNotApplied(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	r, err := given(t, e, "web01", "", "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.bus.kept.PutBytes(t.Context(), "web01/"+planFile(r.GivenPlan), bytes.ToUpper([]byte("one"))); err != nil {
		t.Fatal(err)
	}
	if plan, err := e.Plan(t.Context(), r); err == nil || !strings.Contains(err.Error(), "is not the one that it was asked for with") {
		t.Errorf("it is %q, %v", plan, err)
	}
}
