package seal

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/auth/authtest"
)

func TestSecretsAreKeptSealed(t *testing.T) {
	ctx, store := t.Context(), &authtest.Memory{}
	s := NewSecrets(store, sealer(1))
	must(t, s.Put(ctx, "vcenter", Secret("open sesame")))
	must(t, s.Put(ctx, "luks-1", Secret("first")))
	must(t, s.Put(ctx, "luks-1", Secret("second")))
	names, err := s.Names(ctx)
	must(t, err)
	if diff := cmp.Diff([]string{"luks-1", "vcenter"}, names); diff != "" {
		t.Error(diff)
	}
	got, err := NewSecrets(store, sealer(1)).Open(ctx, "luks-1")
	if err != nil || string(got) != "second" {
		t.Errorf("Open = %v", err)
	}
	value, _, err := store.Read(ctx, "secrets.vcenter")
	if err != nil || strings.Contains(string(value), "sesame") {
		t.Errorf("kept is %q, %v", value, err)
	}
	must(t, s.Delete(ctx, "luks-1"))
	_, err = s.Open(ctx, "luks-1")
	wants(t, "one that was deleted", err, auth.ErrNotFound)
	wants(t, "a second deletion", s.Delete(ctx, "luks-1"), auth.ErrNotFound)
	_, err = NewSecrets(store, sealer(2)).Open(ctx, "vcenter")
	wants(t, "without the key", err, ErrNoKey)
}

func TestASecretInThePlaceOfAnotherDoesNotOpen(t *testing.T) {
	ctx, store := t.Context(), &authtest.Memory{}
	s := NewSecrets(store, sealer(1))
	must(t, s.Put(ctx, "a", Secret("of a")))
	value, _, err := store.Read(ctx, "secrets.a")
	must(t, err)
	must(t, store.Create(ctx, "secrets.b", value))
	_, err = s.Open(ctx, "b")
	wants(t, "a's secret at b", err, ErrDamaged)
}

func TestWhatCannotBeKept(t *testing.T) {
	ctx, store := t.Context(), &authtest.Memory{}
	s := NewSecrets(store, sealer(1))
	for _, name := range []string{"", "A", "a.b", "-a", "a b", "a/b", "..", strings.Repeat("a", 64), "a\n"} {
		wants(t, fmt.Sprintf("Put %q", name), s.Put(ctx, name, Secret("x")), ErrInput)
		_, err := s.Open(ctx, name)
		wants(t, fmt.Sprintf("Open %q", name), err, ErrInput)
		wants(t, fmt.Sprintf("Delete %q", name), s.Delete(ctx, name), ErrInput)
	}
	wants(t, "nothing", s.Put(ctx, "a", nil), ErrInput)
	wants(t, "too much", s.Put(ctx, "a", make(Secret, MostSecret+1)), ErrInput)
	must(t, s.Put(ctx, "a", make(Secret, MostSecret)))
	for i := range MostSecrets - 1 {
		must(t, store.Create(ctx, fmt.Sprint("secrets.s", i), nil))
	}
	wants(t, "one more", s.Put(ctx, "b", Secret("x")), ErrInput)
	must(t, s.Put(ctx, "a", Secret("in its own place")))
}

func TestAfterResealingTheOldKeyIsNotNeeded(t *testing.T) {
	ctx, store := t.Context(), &authtest.Memory{}
	for _, name := range []string{"a", "b", "c"} {
		must(t, NewSecrets(store, sealer(1)).Put(ctx, name, Secret("of "+name)))
	}
	both := NewSecrets(store, sealer(2, 1))
	must(t, both.Put(ctx, "b", Secret("of b, new")))
	if n, err := both.Reseal(ctx); n != 2 || err != nil {
		t.Errorf("Reseal = %d, %v, want 2", n, err)
	}
	if n, err := both.Reseal(ctx); n != 0 || err != nil {
		t.Errorf("a second Reseal = %d, %v", n, err)
	}
	for name, want := range map[string]string{"a": "of a", "b": "of b, new", "c": "of c"} {
		got, err := NewSecrets(store, sealer(2)).Open(ctx, name)
		if err != nil || string(got) != want {
			t.Errorf("Open(%s) = %v", name, err)
		}
	}
	must(t, NewSecrets(store, sealer(9)).Put(ctx, "foreign", Secret("x")))
	_, err := both.Reseal(ctx)
	wants(t, "one of a key that is gone", err, ErrNoKey)
}

func TestOfManyWhoPutOneSecretTheLastStays(t *testing.T) {
	ctx, store := context.Background(), &authtest.Memory{}
	s := NewSecrets(store, sealer(1))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := s.Put(ctx, "a", Secret(fmt.Sprint("from ", i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, err := s.Open(ctx, "a"); err != nil || !strings.HasPrefix(string(got), "from ") {
		t.Errorf("Open = %v", err)
	}
}
