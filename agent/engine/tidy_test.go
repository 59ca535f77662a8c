package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// year is how long what has ended is listed in these tests.
const year = 365 * 24 * time.Hour

// listed are the IDs that are listed, the newest first.
func listed(e *Engine) (ids []string) {
	e.All(func(m *model.Migration) { ids = append(ids, m.ID) })
	return ids
}

func keeps(t *testing.T, e *Engine, id string) {
	t.Helper()
	if err := e.Keep(t.Context(), id, []File{text("report.md", "it booted")}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatEndedLongAgoIsForgottenAndItsResultsStay(t *testing.T) {
	t.Parallel()
	w := quick(t)
	c := config(t, w)
	c.Keep = Keep{For: year}
	e := opened(t, c)
	for _, id := range []string{"old", "needed"} {
		submitted(t, e, id, spec())
		ends(t, e, id, model.StateDone)
		keeps(t, e, id)
	}
	waiting := spec()
	waiting.Schedule = model.Schedule{After: []string{"needed"}, Start: time.Now().Add(10 * year)}
	submitted(t, e, "waiting", waiting)
	now := time.Now()
	if err := e.forgetOld(t.Context(), now.Add(year-time.Hour)); err != nil || len(listed(e)) != 3 {
		t.Errorf("before a year is over left are %v, %v", listed(e), err)
	}
	if err := e.forgetOld(t.Context(), now.Add(year+time.Hour)); err != nil {
		t.Error(err)
	}
	if _, err := e.View(t.Context(), "old"); !errors.Is(err, ErrUnknown) {
		t.Errorf("after a year it is there: %v", err)
	}
	if list, err := e.Kept(t.Context(), "old"); err != nil || len(list) > 0 {
		t.Errorf("after a year kept are %v, %v", list, err)
	}
	for _, id := range []string{"waiting", "needed"} {
		if _, err := e.View(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if w.count("old") != w.steps {
		t.Errorf("of what it has made in its folder %d of %d steps are there", w.count("old"), w.steps)
	}
}

func TestOfMoreThanAreKeptThoseThatEndedFirstGo(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	e := opened(t, c)
	for i := range 5 {
		id := fmt.Sprint("m", i)
		submitted(t, e, id, spec())
		ends(t, e, id, model.StateDone)
	}
	ordered(t, e, "m0", Order{Kind: model.OperationKindTest}) // which ends last
	awaited(t, e, "m0", func(m model.Migration) bool { return len(m.Operations) == 2 && m.Operations[1].Done })
	later := time.Now().Add(10 * year)
	if err := e.forgetOld(t.Context(), later); err != nil || len(listed(e)) != 5 {
		t.Errorf("without a bound left are %v, %v", listed(e), err)
	}
	e.config.Keep = Keep{Count: 2}
	if err := e.forgetOld(t.Context(), time.Now()); err != nil {
		t.Error(err)
	}
	for id, there := range map[string]bool{"m0": true, "m1": false, "m2": false, "m3": false, "m4": true} {
		if _, err := e.View(t.Context(), id); there != (err == nil) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestABatchGoesWithTheLastOfItsMigrations(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	c.Keep = Keep{For: year}
	e := opened(t, c)
	begun(t, e, wave("w", 3, 0))
	comes(t, e, "w", allIn(model.StateDone))
	if err := e.forgetOld(t.Context(), time.Now()); err != nil {
		t.Error(err)
	}
	if b := comes(t, e, "w", func(model.Batch) bool { return true }); b.Counts["done"] != 3 {
		t.Errorf("at once it is %+v", b)
	}
	limit := time.Now().Add(20 * time.Second)
	for { // the table hears of what was forgotten a moment later
		if err := e.forgetOld(t.Context(), time.Now().Add(year+time.Hour)); err != nil {
			t.Error(err)
		}
		_, err := e.Batch(t.Context(), "w")
		if errors.Is(err, ErrNoBatch) {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("it is there: %v", err)
		}
	}
	if left := listed(e); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestAnEngineTidiesWhenItIsOpened(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	c.Keep = Keep{For: year}
	e := opened(t, c)
	submitted(t, e, "old", spec())
	ends(t, e, "old", model.StateDone)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	c.Now = func() time.Time { return time.Now().Add(year + time.Hour) }
	e = opened(t, c)
	for limit := time.Now().Add(20 * time.Second); len(listed(e)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("left are %v", listed(e))
		}
	}
}
