package auth_test

import (
	"errors"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/agent/auth"
)

func (h *house) firstCode() string {
	h.t.Helper()
	code, err := h.FirstCode(h.t.Context())
	must(h.t, err)
	return string(code)
}

func TestTheFirstCodeMakesOneAdminOnce(t *testing.T) {
	h := newHouse(t)
	code := h.firstCode()
	if !regexp.MustCompile(`^([0-9A-HJKMNP-TV-Z]{5}-){3}[0-9A-HJKMNP-TV-Z]{5}$`).MatchString(code) {
		t.Fatalf("the code is %q", code)
	}
	if bare := strings.ReplaceAll(code, "-", ""); strings.Contains(h.kept(), bare) || strings.Contains(h.kept(), code) {
		t.Error("the code is in the store")
	}
	if begun, err := h.Begun(t.Context()); begun || err != nil {
		t.Errorf("before anybody has access it is told that somebody has: %v, %v", begun, err)
	}
	s, err := h.FirstAdmin(t.Context(), here, code, "ops", password("ops"))
	must(t, err)
	if begun, err := h.Begun(t.Context()); !begun || err != nil {
		t.Errorf("with an admin it is told that nobody has access: %v, %v", begun, err)
	}
	h.is(s, "ops", auth.Admin)
	h.is(h.login("ops"), "ops", auth.Admin)
	_, err = h.annex().FirstAdmin(t.Context(), elsewhere, code, "eve", password("eve"))
	wants(t, "the code again", err, auth.ErrNoCode)
	if again := h.firstCode(); again != "" {
		t.Errorf("there is a code %q beside an admin", again)
	}
}

func TestTheFirstCodeIsReadAsPeopleTypeIt(t *testing.T) {
	for typed, want := range map[string]string{
		"01234-56789-ABCDE-FGHJK":    "0123456789ABCDEFGHJK",
		"01234 56789 abcde fghjk":    "0123456789ABCDEFGHJK",
		" oi2345-6789abcdefghjk- - ": "012345" + "6789ABCDEFGHJK",
		"lO000-00000-00000-00000":    "10000000000000000000",
		"01234-56789-ABCDE-FGHJU":    "",
		"01234-56789-ABCDE-FGHJ":     "",
		"01234-56789-ABCDE-FGHJKM":   "",
		"":                           "",
		"é1234-56789-ABCDE-FGHJK":    "",
		strings.Repeat("-", 1<<20):   "",
	} {
		got, err := auth.ParseCode(typed)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseCode(%.30q) = %q, %v, want %q", typed, got, err, want)
		}
	}
}

func TestAWrongCodeIsRefusedAndHeldUp(t *testing.T) {
	h := newHouse(t)
	code := h.firstCode()
	tried := 0
	for {
		_, err := h.FirstAdmin(t.Context(), elsewhere, auth.NewCode(), "eve", password("eve"))
		if !errors.Is(err, auth.ErrNoCode) {
			wait(t, "one more code", err)
			break
		}
		tried++
	}
	if tried != 3 {
		t.Errorf("%d codes could be tried in a row, want 3", tried)
	}
	if n := h.hashes.Load(); n != 0 {
		t.Errorf("%d passwords were hashed for wrong codes", n)
	}
	_, err := h.FirstAdmin(t.Context(), here, code, "ops", password("ops"))
	must(t, err) // from here it can be used
}

func TestARefusedPasswordLeavesTheCode(t *testing.T) {
	h := newHouse(t)
	code := h.firstCode()
	_, err := h.FirstAdmin(t.Context(), here, code, "ops", "short")
	wants(t, "a short password", err, auth.ErrInput)
	_, err = h.FirstAdmin(t.Context(), here, code, "Not A Name", password("ops"))
	wants(t, "a wrong name", err, auth.ErrInput)
	_, err = h.FirstAdmin(t.Context(), here, code, "ops", password("ops"))
	must(t, err)
}

func TestALaterCodeTakesThePlaceOfAnEarlierOne(t *testing.T) {
	h := newHouse(t)
	first, second := h.firstCode(), h.annex().firstCode()
	_, err := h.FirstAdmin(t.Context(), here, first, "eve", password("eve"))
	wants(t, "the earlier code", err, auth.ErrNoCode)
	_, err = h.FirstAdmin(t.Context(), here, second, "ops", password("ops"))
	must(t, err)
}

func TestOfManyWhoHaveTheCodeOneBecomesAdmin(t *testing.T) {
	h := newHouse(t)
	code := h.firstCode()
	var all sync.WaitGroup
	var won atomic.Int64
	for i := range 8 {
		other := h.annex()
		all.Go(func() {
			name := string(rune('a' + i))
			_, err := other.FirstAdmin(t.Context(), here, code, name, password("first"))
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, auth.ErrNoCode) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	users, err := h.Users(t.Context(), root)
	if err != nil || len(users) != 1 || won.Load() != 1 {
		t.Errorf("%d won, users %+v, %v", won.Load(), users, err)
	}
}

func TestThereIsNoCodeBesideASeededCertificate(t *testing.T) {
	h := newHouse(t)
	code := h.firstCode()
	seeded, err := h.Seed(t.Context(), auth.Certificate{Name: "seed", Fingerprint: strings.Repeat("ab", 32), Role: auth.Admin})
	if err != nil || !seeded {
		t.Fatalf("Seed = %v, %v", seeded, err)
	}
	_, err = h.FirstAdmin(t.Context(), here, code, "eve", password("eve"))
	wants(t, "the code after the seed", err, auth.ErrNoCode)
	must(t, h.RemoveCertificate(t.Context(), root, strings.Repeat("ab", 32)))
	h.clock.pass(time.Hour)
	if code := h.firstCode(); code != "" {
		t.Error("there is a code once more, after everybody was removed")
	}
}
