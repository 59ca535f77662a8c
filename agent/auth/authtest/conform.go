package authtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/auth"
)

// TestStore proves what must hold of a store. Open returns an empty one, which ends with
// the test.
func TestStore(t *testing.T, open func(t *testing.T) auth.Store) {
	for name, test := range map[string]func(*testing.T, auth.Store){
		"what is created is read":           created,
		"what is there is not created":      createdTwice,
		"an update needs the revision":      updated,
		"a deletion needs the revision":     deleted,
		"what was deleted does not return":  deletedAndMadeAgain,
		"a copy is kept and given":          copied,
		"keys are listed by prefix":         listed,
		"keys and values of full size":      large,
		"of many creators one succeeds":     creators,
		"no update of many is lost":         counters,
		"of update and deletion one counts": updateOrDelete,
		"who has gone away gets an error":   cancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, doing string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s = %v, want %v", doing, got, want)
	}
}

func wantRead(t *testing.T, s auth.Store, key, want string) uint64 {
	t.Helper()
	value, revision, err := s.Read(t.Context(), key)
	if err != nil || string(value) != want || revision == 0 {
		t.Fatalf("Read(%s) = %q at %d, %v, want %q above 0", key, value, revision, err, want)
	}
	return revision
}

func created(t *testing.T, s auth.Store) {
	_, _, err := s.Read(t.Context(), "a.b")
	wantErr(t, "Read of nothing", err, auth.ErrNotFound)
	must(t, s.Create(t.Context(), "a.b", []byte("one")))
	wantRead(t, s, "a.b", "one")
	_, _, err = s.Read(t.Context(), "a")
	wantErr(t, "Read of a prefix", err, auth.ErrNotFound)
	must(t, s.Create(t.Context(), "empty", nil))
	wantRead(t, s, "empty", "")
}

func createdTwice(t *testing.T, s auth.Store) {
	must(t, s.Create(t.Context(), "a", []byte("one")))
	wantErr(t, "a second Create", s.Create(t.Context(), "a", []byte("two")), auth.ErrExists)
	wantErr(t, "a Create of the same", s.Create(t.Context(), "a", []byte("one")), auth.ErrExists)
	wantRead(t, s, "a", "one")
}

func updated(t *testing.T, s auth.Store) {
	ctx := t.Context()
	wantErr(t, "Update of nothing at 0", s.Update(ctx, "a", nil, 0), auth.ErrChanged)
	wantErr(t, "Update of nothing", s.Update(ctx, "a", nil, 7), auth.ErrChanged)
	must(t, s.Create(ctx, "a", []byte("one")))
	first := wantRead(t, s, "a", "one")
	wantErr(t, "Update at 0", s.Update(ctx, "a", []byte("x"), 0), auth.ErrChanged)
	wantErr(t, "Update at a later revision", s.Update(ctx, "a", []byte("x"), first+1), auth.ErrChanged)
	must(t, s.Create(ctx, "b", nil)) // does not change a
	must(t, s.Update(ctx, "a", []byte("two"), first))
	if second := wantRead(t, s, "a", "two"); second <= first {
		t.Errorf("the revision went from %d to %d", first, second)
	}
	wantErr(t, "Update at the first revision", s.Update(ctx, "a", []byte("x"), first), auth.ErrChanged)
	wantRead(t, s, "a", "two")
}

func deleted(t *testing.T, s auth.Store) {
	ctx := t.Context()
	wantErr(t, "Delete of nothing", s.Delete(ctx, "a", 1), auth.ErrChanged)
	must(t, s.Create(ctx, "a", []byte("one")))
	first := wantRead(t, s, "a", "one")
	wantErr(t, "Delete at 0", s.Delete(ctx, "a", 0), auth.ErrChanged)
	must(t, s.Update(ctx, "a", []byte("two"), first))
	wantErr(t, "Delete at the first revision", s.Delete(ctx, "a", first), auth.ErrChanged)
	second := wantRead(t, s, "a", "two")
	must(t, s.Delete(ctx, "a", second))
	_, _, err := s.Read(ctx, "a")
	wantErr(t, "Read of what was deleted", err, auth.ErrNotFound)
	wantErr(t, "a second Delete", s.Delete(ctx, "a", second), auth.ErrChanged)
	wantErr(t, "Update of what was deleted", s.Update(ctx, "a", nil, second), auth.ErrChanged)
}

func deletedAndMadeAgain(t *testing.T, s auth.Store) {
	ctx := t.Context()
	must(t, s.Create(ctx, "a", []byte("one")))
	first := wantRead(t, s, "a", "one")
	must(t, s.Delete(ctx, "a", first))
	must(t, s.Create(ctx, "a", []byte("one")))
	if again := wantRead(t, s, "a", "one"); again == first {
		t.Errorf("the revision %d was used again", first)
	}
	wantErr(t, "Update of the first one", s.Update(ctx, "a", []byte("x"), first), auth.ErrChanged)
	wantErr(t, "Delete of the first one", s.Delete(ctx, "a", first), auth.ErrChanged)
	wantRead(t, s, "a", "one")
}

func copied(t *testing.T, s auth.Store) {
	data := []byte("one")
	must(t, s.Create(t.Context(), "a", data))
	data[0] = 'X'
	revision := wantRead(t, s, "a", "one")
	read, _, err := s.Read(t.Context(), "a")
	must(t, err)
	read[0] = 'X'
	wantRead(t, s, "a", "one")
	data = []byte("two")
	must(t, s.Update(t.Context(), "a", data, revision))
	data[0] = 'X'
	wantRead(t, s, "a", "two")
}

func listed(t *testing.T, s auth.Store) {
	ctx := t.Context()
	list := func(prefix string) []string {
		keys, err := s.List(ctx, prefix)
		must(t, err)
		slices.Sort(keys)
		return keys
	}
	if got := list(""); len(got) != 0 {
		t.Fatalf("an empty store has %q", got)
	}
	for _, key := range []string{"a", "s.1.x", "s.1.y", "s.2.x", "s2.x", "gone.x"} {
		must(t, s.Create(ctx, key, nil))
	}
	must(t, s.Update(ctx, "s.1.y", []byte("more"), wantRead(t, s, "s.1.y", "")))
	must(t, s.Delete(ctx, "gone.x", wantRead(t, s, "gone.x", "")))
	for prefix, want := range map[string][]string{
		"":      {"a", "s.1.x", "s.1.y", "s.2.x", "s2.x"},
		"s.":    {"s.1.x", "s.1.y", "s.2.x"},
		"s.1.":  {"s.1.x", "s.1.y"},
		"gone.": nil,
		"none.": nil,
	} {
		if diff := cmp.Diff(want, list(prefix), cmp.Transformer("length", func(s []string) string { return fmt.Sprintf("%q", s) })); diff != "" {
			t.Errorf("List(%q): %s", prefix, diff)
		}
	}
}

func large(t *testing.T, s auth.Store) {
	key, value := "sessions."+strings.Repeat("a-9z", 47)+".x", strings.Repeat("v", 512<<10)
	must(t, s.Create(t.Context(), key, []byte(value)))
	if got, _, err := s.Read(t.Context(), key); err != nil || string(got) != value {
		t.Errorf("Read = %d bytes, %v, want %d", len(got), err, len(value))
	}
}

const many = 8

func together(do func(i int)) {
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

func creators(t *testing.T, s auth.Store) {
	var errs [many]error
	together(func(i int) { errs[i] = s.Create(t.Context(), "a", []byte(strconv.Itoa(i))) })
	winner := slices.Index(errs[:], nil)
	if winner < 0 {
		t.Fatalf("nobody created it: %v", errs)
	}
	for i, err := range errs {
		if i != winner {
			wantErr(t, "a later Create", err, auth.ErrExists)
		}
	}
	wantRead(t, s, "a", strconv.Itoa(winner))
}

func counters(t *testing.T, s auth.Store) {
	const each = 20
	must(t, s.Create(t.Context(), "n", []byte("0")))
	together(func(int) {
		for range each {
			if err := increment(t.Context(), s); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wantRead(t, s, "n", strconv.Itoa(many*each))
}

func increment(ctx context.Context, s auth.Store) error {
	for {
		value, revision, err := s.Read(ctx, "n")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(value))
		if err != nil {
			return err
		}
		if err := s.Update(ctx, "n", []byte(strconv.Itoa(n+1)), revision); !errors.Is(err, auth.ErrChanged) {
			return err
		}
	}
}

func updateOrDelete(t *testing.T, s auth.Store) {
	must(t, s.Create(t.Context(), "a", []byte("one")))
	revision := wantRead(t, s, "a", "one")
	var errs [many]error
	together(func(i int) {
		if i%2 == 0 {
			errs[i] = s.Update(t.Context(), "a", []byte("two"), revision)
		} else {
			errs[i] = s.Delete(t.Context(), "a", revision)
		}
	})
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantErr(t, "what came later", err, auth.ErrChanged)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d changes of one revision were made", won, many)
	}
}

func cancelled(t *testing.T, s auth.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, read := s.Read(ctx, "a")
	_, list := s.List(ctx, "")
	for doing, err := range map[string]error{"Read": read, "List": list, "Create": s.Create(ctx, "a", nil), "Update": s.Update(ctx, "a", nil, 1), "Delete": s.Delete(ctx, "a", 1)} {
		wantErr(t, doing, err, context.Canceled)
	}
}
