package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/auth/authtest"
)

// house is a gate with what it stands on.
type house struct {
	*auth.Gate
	t      *testing.T
	store  *authtest.Memory
	audit  *authtest.Audit
	clock  *clock
	hashes *atomic.Int64
}

const secretWord = "plum-lamp-otter-49" // is in every password here

var (
	here      = netip.MustParseAddr("192.0.2.7")
	elsewhere = netip.MustParseAddr("198.51.100.9")
	root      = auth.Local("root", auth.Admin)
)

func password(name string) string { return secretWord + " of " + name }

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, store: &authtest.Memory{}, audit: &authtest.Audit{}, clock: &clock{now: time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)}}
	h.Gate = auth.New(h.store, h.audit, h.clock.Now)
	h.hashes = h.Cheap(nil)
	return h
}

// annex is another appliance on the same store, with the same clock and audit.
func (h *house) annex() *house {
	other := *h
	other.Gate = auth.New(h.store, h.audit, h.clock.Now)
	other.hashes = other.Cheap(nil)
	return &other
}

// user makes one.
func (h *house) user(name string, role auth.Role) {
	h.t.Helper()
	must(h.t, h.CreateUser(h.t.Context(), root, name, role, password(name)))
}

// login begins a session.
func (h *house) login(name string) auth.Session {
	h.t.Helper()
	s, err := h.Login(h.t.Context(), here, name, password(name))
	must(h.t, err)
	return s
}

// is wants a session to be of somebody.
func (h *house) is(s auth.Session, name string, role auth.Role) auth.Principal {
	h.t.Helper()
	p, err := h.Session(h.t.Context(), here, string(s.Value))
	if err != nil || p.Name != name || p.Role != role || p.By != auth.BySession {
		h.t.Fatalf("the session is of %+v, %v, want %s, %v", p, err, name, role)
	}
	return p
}

// ended wants a session to be over.
func (h *house) ended(s auth.Session) {
	h.t.Helper()
	p, err := h.Session(h.t.Context(), here, string(s.Value))
	wants(h.t, fmt.Sprintf("a session that ended, of %+v", p), err, auth.ErrUnauthenticated)
	wants(h.t, "its Recheck", h.Recheck(h.t.Context(), s.Principal), auth.ErrUnauthenticated)
}

// kept is all that the store holds, as text.
func (h *house) kept() string {
	h.t.Helper()
	keys, err := h.store.List(h.t.Context(), "")
	must(h.t, err)
	var all strings.Builder
	for _, key := range keys {
		value, _, err := h.store.Read(h.t.Context(), key)
		must(h.t, err)
		fmt.Fprintln(&all, key, string(value))
	}
	return all.String()
}

// last is the newest entry of the audit.
func (h *house) last() auth.Entry {
	h.t.Helper()
	all := h.audit.Entries()
	if len(all) == 0 {
		h.t.Fatal("nothing was recorded")
	}
	return all[len(all)-1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, doing string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s: %v, want %v", doing, got, want)
	}
}

func wait(t *testing.T, doing string, err error) time.Duration {
	t.Helper()
	var many *auth.TooManyError
	if !errors.As(err, &many) {
		t.Fatalf("%s: %v, want a wait", doing, err)
	}
	return many.After
}

// broken is a store that answers nothing while it is down.
type broken struct {
	*authtest.Memory
	down atomic.Bool
}

var errDown = errors.New("the store does not answer")

func (b *broken) Read(ctx context.Context, key string) ([]byte, uint64, error) {
	if b.down.Load() {
		return nil, 0, errDown
	}
	return b.Memory.Read(ctx, key)
}
