package engine

import (
	"fmt"
	"strings"
	"testing"

	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/auth/authtest"
)

func TestStatesAreAStore(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	authtest.TestStore(t, func(t *testing.T) auth.Store { return emptied(t, e.States()) })
}

// emptied is a store with nothing in it.
func emptied(t *testing.T, s States) auth.Store {
	t.Helper()
	keys, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := s.bucket.Delete(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestWhatIsAuditedStays(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	for i := range 5 {
		e.Record(t.Context(), auth.Entry{Action: "user.create", Target: fmt.Sprint("u", i)})
	}
	list, err := e.Audited(t.Context(), 0, 2)
	if err != nil || len(list) != 2 || !strings.Contains(string(list[0].JSON), `"u4"`) {
		t.Fatalf("the newest are %v, %v", list, err)
	}
	if list, err = e.Audited(t.Context(), list[1].Number, 10); err != nil || len(list) != 3 || !strings.Contains(string(list[2].JSON), `"u0"`) {
		t.Errorf("before are %v, %v", list, err)
	}
	if err := e.bus.audit.Purge(t.Context()); err == nil {
		t.Error("all entries could be taken away")
	}
	if err := e.bus.audit.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an entry could be taken away")
	}
}
