package engine

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
)

// TestARecordOfALaterVersionIsLeftAsItIs: it is refused in words, its fellows go on, and
// the version that wrote it finds it again.
func TestARecordOfALaterVersionIsLeftAsItIs(t *testing.T) {
	c := config(t, quick(t))
	e := opened(t, c)
	r := submitted(t, e, "later", spec())
	ends(t, e, r.ID, model.StateDone)
	submitted(t, e, "now", spec())
	ends(t, e, "now", model.StateDone)
	entry, err := e.bus.jobs.Get(t.Context(), "later")
	if err != nil {
		t.Fatal(err)
	}
	later := bytes.Replace(entry.Value(), []byte(`"version":1`), []byte(`"version":2,"novelty":"must stay"`), 1)
	if bytes.Equal(later, entry.Value()) {
		t.Fatalf("the record has no version: %s", later)
	}
	if _, err := e.bus.jobs.Put(t.Context(), "later", later); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = opened(t, c)
	for what, err := range map[string]error{"View": second(e.View(t.Context(), "later")), "Forget": e.Forget(t.Context(), "later", 0), "Reschedule": second(e.Reschedule(t.Context(), "later", model.Schedule{}, 0)),
		"Submit": second(e.Submit(t.Context(), "later", spec(), "web01", "ops", ""))} {
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "later is of version 2, and this one reads version 1") {
			t.Errorf("%s: %v", what, err)
		}
	}
	submitted(t, e, "next", spec())
	ends(t, e, "next", model.StateDone)
	if entry, err = e.bus.jobs.Get(t.Context(), "later"); err != nil || !bytes.Equal(entry.Value(), later) {
		t.Errorf("it is now %s, %v", entry.Value(), err)
	}
	if ids := e.List(func(*model.Migration) bool { return true }, "", 10).Items; len(ids) != 2 {
		t.Errorf("listed are %d", len(ids))
	}
}

func second[T any](_ T, err error) error { return err }
