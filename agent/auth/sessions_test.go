package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/auth"
)

func TestASessionEndsWhenItIdles(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	s := h.login("ops")
	for range 10 {
		h.clock.pass(auth.SessionIdle - time.Minute)
		h.is(s, "ops", auth.Viewer)
		must(t, h.Recheck(t.Context(), s.Principal))
	}
	h.clock.pass(auth.SessionIdle - time.Second)
	must(t, h.Recheck(t.Context(), s.Principal)) // does not keep it
	h.clock.pass(time.Second)
	h.ended(s)
}

func TestASessionEndsAfterItsLength(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	s := h.login("ops")
	for range auth.SessionLength/(10*time.Minute) - 1 {
		h.clock.pass(10 * time.Minute)
		h.is(s, "ops", auth.Viewer)
	}
	if want := h.clock.Now().Add(10 * time.Minute); !s.Principal.Until.Equal(want) {
		t.Errorf("it says that it ends at %v, want %v", s.Principal.Until, want)
	}
	h.clock.pass(10 * time.Minute)
	h.ended(s)
	must(t, h.Sweep(t.Context()))
	if strings.Contains(h.kept(), "sessions.") {
		t.Error("it is still kept")
	}
}

func TestASessionFromTheFutureIsRefused(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	s := h.login("ops")
	h.clock.pass(-time.Minute)
	h.is(s, "ops", auth.Viewer)
	h.clock.pass(-time.Hour)
	h.ended(s)
}

func TestLogoutEndsOneSessionEverywhereAtOnce(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	one, two := h.login("ops"), h.login("ops")
	other := h.annex()
	other.is(one, "ops", auth.Viewer)
	must(t, h.Logout(t.Context(), one.Principal))
	other.ended(one)
	other.is(two, "ops", auth.Viewer)
	must(t, h.Logout(t.Context(), one.Principal))
}

func TestASessionIsNotKeptInClear(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	s := h.login("ops")
	_, part, _ := strings.Cut(string(s.Value), ".")
	if strings.Contains(h.kept(), part) || strings.Contains(fmt.Sprintf("%v %+v %#v", s, s, s), part) {
		t.Error("its value can be read")
	}
}

func TestACookieThatWasTouchedIsRefused(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	value := string(h.login("ops").Value)
	for i := range value {
		for _, c := range []byte{value[i] ^ 1, 'A', '.', 0} {
			changed := value[:i] + string(rune(c)) + value[i+1:]
			if changed == value {
				continue
			}
			_, err := h.Session(t.Context(), here, changed)
			wants(t, changed, err, auth.ErrUnauthenticated)
		}
	}
	for _, text := range []string{"", ".", value + "x", value[1:], strings.Repeat("a", 1<<20), "access", "../access"} {
		_, err := h.Session(t.Context(), here, text)
		wants(t, text[:min(len(text), 50)], err, auth.ErrUnauthenticated)
	}
}

// The key of a session's record, which backups and the store show, is not its value.
func TestOfASessionTheWholeHashCounts(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	value := string(h.login("ops").Value)
	key, _ := auth.SessionKey(value)
	data, revision, err := h.store.Read(t.Context(), key)
	must(t, err)
	other := strings.Replace(string(data), `"hash":"`, `"hash":"0`, 1)
	must(t, h.store.Update(t.Context(), key, []byte(other), revision))
	_, err = h.Session(t.Context(), here, value)
	wants(t, "a session with another hash at its key", err, auth.ErrUnauthenticated)
}

func TestSessionsOfOneAreBounded(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	h.user("zoe", auth.Viewer)
	others := h.login("zoe")
	var all []auth.Session
	for range auth.MostSessions + 3 {
		all = append(all, h.login("ops"))
		h.clock.pass(time.Second)
	}
	for i, s := range all {
		if i < 3 {
			h.ended(s)
		} else {
			h.is(s, "ops", auth.Viewer)
		}
	}
	h.is(others, "zoe", auth.Viewer)
}

func TestTheCookieStaysWithOneHostAndItsPages(t *testing.T) {
	s := auth.Session{Value: []byte("value")}
	if got, want := s.Cookie().String(), "__Host-session=value; Path=/; HttpOnly; Secure; SameSite=Strict"; got != want {
		t.Errorf("the cookie is %q, want %q", got, want)
	}
	if got, want := auth.NoCookie().String(), "__Host-session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"; got != want {
		t.Errorf("without a session it is %q, want %q", got, want)
	}
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	c := h.login("ops").Cookie()
	if err := c.Valid(); err != nil {
		t.Error(err)
	}
	if parsed, err := http.ParseSetCookie(c.String()); err != nil || parsed.Value != c.Value {
		t.Errorf("it is read as %v, %v", parsed, err)
	}
}

// One that is used at the moment when it is ended stays so.
func TestUseDoesNotBringASessionBack(t *testing.T) {
	for range 20 {
		h := newHouse(t)
		h.user("ops", auth.Viewer)
		s := h.login("ops")
		h.clock.pass(2 * time.Minute) // so that use is written
		var all sync.WaitGroup
		for range 4 {
			other := h.annex()
			all.Go(func() { _, _ = other.Session(context.Background(), here, string(s.Value)) })
		}
		all.Go(func() { must(t, h.Logout(t.Context(), s.Principal)) })
		all.Wait()
		h.ended(s)
		if strings.Contains(h.kept(), "sessions.") {
			t.Fatal("its record is back")
		}
	}
}
