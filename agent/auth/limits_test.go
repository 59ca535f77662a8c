package auth_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"hyper2kvm/agent/auth"
)

func (h *house) guess(from netip.Addr, name string) error {
	_, err := h.Login(h.t.Context(), from, name, "not the password")
	return err
}

func at(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }

func TestWrongPasswordsWaitLongerAndLonger(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	for range 3 {
		wants(t, "one of the first three", h.guess(here, "ops"), auth.ErrWrong)
	}
	hashes := h.hashes.Load()
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		if got := wait(t, "too soon", h.guess(here, "ops")); got != want*time.Second {
			t.Fatalf("the wait is %v, want %v", got, want*time.Second)
		}
		h.clock.pass(want * time.Second)
		wants(t, "after the wait", h.guess(here, "ops"), auth.ErrWrong)
	}
	if n := h.hashes.Load() - hashes; n != 11 {
		t.Errorf("%d passwords were hashed, want 11", n)
	}
	h.clock.pass(5 * time.Minute)
	h.login("ops")
	wants(t, "after a login", h.guess(here, "ops"), auth.ErrWrong)
	wants(t, "after a login", h.guess(here, "ops"), auth.ErrWrong)
	if got := auth.Wait(1000); got != 5*time.Minute {
		t.Errorf("after 1000 failures the wait is %v", got)
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		wants(t, "a guess", h.guess(here, "ops"), auth.ErrWrong)
	}
	h.clock.pass(31 * time.Minute)
	for range 3 {
		wants(t, "half an hour later", h.guess(here, "ops"), auth.ErrWrong)
	}
	wait(t, "the next", h.guess(here, "ops"))
}

func TestOneAddressHasFewAttempts(t *testing.T) {
	h := newHouse(t)
	guesses := 0
	for h.clock.Now().Before(time.Date(2026, 11, 26, 11, 0, 0, 0, time.UTC)) {
		if h.guess(here, fmt.Sprint("user", guesses)) == auth.ErrWrong {
			guesses++
		}
		h.clock.pass(time.Second / 2)
	}
	if guesses < 600 || guesses > 611 {
		t.Errorf("%d guesses in an hour, want 10 and 600", guesses)
	}
}

func TestAStrangerLocksNobodyOut(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	for range 20 * 60 {
		_ = h.guess(elsewhere, "ops")
		h.clock.pass(time.Second)
	}
	h.login("ops") // from where they never were
}

func TestManyStrangersHoldUpOnlyWhoComesFromElsewhere(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	h.login("ops")
	guesses := 0
	for i := range 2000 {
		if h.guess(at(i), "ops") == auth.ErrWrong {
			guesses++
		}
	}
	if guesses != 30 {
		t.Errorf("%d guesses at once from many addresses, want 30", guesses)
	}
	_, err := h.Login(t.Context(), elsewhere, "ops", password("ops"))
	wait(t, "from a new address", err)
	h.login("ops")
	h.clock.pass(2 * time.Second)
	_, err = h.Login(t.Context(), elsewhere, "ops", password("ops"))
	must(t, err)
}

func TestRightPasswordsCostNothing(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Viewer)
	for range 100 {
		h.login("ops")
	}
}

func TestAHostHasOneNetworkOfIPv6(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := auth.Network(netip.MustParseAddr(addr)); got != want {
			t.Errorf("network(%s) = %s, want %s", addr, got, want)
		}
	}
	if got := auth.Network(netip.Addr{}); got == "" {
		t.Error("no address has no network")
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	h := newHouse(t)
	for i := range auth.MostTracked + 100 {
		_ = h.guess(at(i), fmt.Sprint("user", i))
	}
	if n := h.Tracked(); n != auth.MostTracked {
		t.Errorf("%d are remembered, want %d", n, auth.MostTracked)
	}
	before := len(h.audit.Entries())
	for range 1000 {
		h.refused("h2k_x")
	}
	if n := len(h.audit.Entries()) - before; n != 10 {
		t.Errorf("1000 refused tokens of one address made %d entries, want 10", n)
	}
}
