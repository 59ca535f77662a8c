package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/agent/auth"
)

func TestAStrangerCannotTellWhoIsThere(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	h.user("gone", auth.Viewer)
	must(t, h.DisableUser(t.Context(), root, "gone"))
	texts := map[string]bool{}
	for name, typed := range map[string]string{
		"ops": "not the password", "nobody": password("nobody"), "gone": password("gone"),
		"Not A Name!": password("x"), strings.Repeat("x", 5000): password("x"), "": "",
	} {
		before := h.hashes.Load()
		_, err := h.Login(t.Context(), here, name, typed)
		wants(t, fmt.Sprintf("a login as %.20q", name), err, auth.ErrWrong)
		texts[err.Error()] = true
		if n := h.hashes.Load() - before; n != 1 {
			t.Errorf("a login as %.20q hashed %d times, want once", name, n)
		}
	}
	if len(texts) != 1 {
		t.Errorf("there are several answers: %v", texts)
	}
	before := h.hashes.Load()
	h.login("ops")
	if n := h.hashes.Load() - before; n != 1 {
		t.Errorf("a right login hashed %d times, want once", n)
	}
}

func TestAPasswordThatIsTooLongIsNotHashed(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	before := h.hashes.Load()
	for _, name := range []string{"ops", "nobody"} {
		_, err := h.Login(t.Context(), here, name, strings.Repeat("x", 1<<20))
		wants(t, "a password of 1 MiB", err, auth.ErrWrong)
	}
	if n := h.hashes.Load() - before; n != 0 {
		t.Errorf("%d were hashed", n)
	}
}

func TestLogInsWaitForOneAnotherAndAreBounded(t *testing.T) {
	h := newHouse(t)
	var running, most atomic.Int64
	enter := make(chan struct{})
	h.Cheap(func() {
		most.Store(max(most.Load(), running.Add(1)))
		<-enter
		running.Add(-1)
	})
	results := make(chan error, 100)
	for i := range 100 {
		go func() {
			_, err := h.HashForTest(t.Context(), fmt.Sprint(i))
			results <- err
		}()
	}
	busy := 0
	for range 100 - auth.AtOnce - auth.Waiting {
		if errors.Is(<-results, auth.ErrBusy) {
			busy++
		}
	}
	close(enter)
	for range auth.AtOnce + auth.Waiting {
		must(t, <-results)
	}
	if busy != 100-auth.AtOnce-auth.Waiting || most.Load() != auth.AtOnce {
		t.Errorf("%d were told to come again, %d ran at once", busy, most.Load())
	}
}

func TestWhoGivesUpWaitingIsGone(t *testing.T) {
	h := newHouse(t)
	started, enter := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.Cheap(func() { once.Do(func() { close(started) }); <-enter })
	first := make(chan error)
	go func() {
		_, err := h.HashForTest(t.Context(), "first")
		first <- err
	}()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.HashForTest(ctx, "second")
	wants(t, "who gave up", err, context.Canceled)
	close(enter)
	must(t, <-first)
}

// TestPasswordsAreKeptAsArgon2id takes the real function.
func TestPasswordsAreKeptAsArgon2id(t *testing.T) {
	h := newHouse(t)
	real := auth.New(h.store, h.audit, time.Now)
	kept, err := real.HashForTest(t.Context(), password("ops"))
	must(t, err)
	if !strings.HasPrefix(kept, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Errorf("kept is %q", kept)
	}
	for typed, want := range map[string]bool{password("ops"): true, password("ops") + " ": false, "": false} {
		if got, err := real.FitsForTest(t.Context(), kept, typed); got != want || err != nil {
			t.Errorf("fits(%q) = %v, %v, want %v", typed, got, err, want)
		}
	}
}

// Source: echo -n 'correct horse' | argon2 saltsaltsaltsalt -id -t 2 -k 1024 -p 1 -e
const reference = "$argon2id$v=19$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$MO33cCFnqSA8SskhR8/i5r/vajJ3mDxwI/Myoh5GZwk"

func TestAHashOfTheReferenceImplementationFits(t *testing.T) {
	real := auth.New(nil, nil, time.Now)
	got, err := real.FitsForTest(t.Context(), reference, "correct horse")
	if err != nil || !got {
		t.Errorf("fits = %v, %v", got, err)
	}
}

func TestAHashIsReadStrictly(t *testing.T) {
	for text, ok := range map[string]bool{
		reference: true,
		strings.Replace(reference, "argon2id", "argon2i", 1):    false,
		strings.Replace(reference, "v=19", "v=16", 1):           false,
		strings.Replace(reference, "m=1024", "m=01024", 1):      false,
		strings.Replace(reference, "m=1024", "m=262145", 1):     false,
		strings.Replace(reference, "m=1024", "m=7", 1):          false,
		strings.Replace(reference, "m=1024", "m=4294967296", 1): false,
		strings.Replace(reference, "t=2", "t=0", 1):             false,
		strings.Replace(reference, "t=2", "t=17", 1):            false,
		strings.Replace(reference, "p=1", "p=0", 1):             false,
		strings.Replace(reference, "p=1", "p=17", 1):            false,
		strings.Replace(reference, "p=1", "p=1 ", 1):            false,
		strings.Replace(reference, "p=1", "p=1,x=2", 1):         false,
		strings.Replace(reference, "c2Fsd", "", 1):              false,
		reference + "=":              false,
		reference + "$":              false,
		reference[:len(reference)-4]: false,
		"":                           false,
	} {
		if _, err := auth.ParseHash(text); (err == nil) != ok {
			t.Errorf("parseHash(%q) = %v, want read: %v", text, err, ok)
		}
	}
}

func TestAccentsFitHoweverTheyAreTyped(t *testing.T) {
	h := newHouse(t)
	kept, err := h.HashForTest(t.Context(), "cr\u00e8me br\u00fbl\u00e9e 42")
	must(t, err)
	if got, err := h.FitsForTest(t.Context(), kept, "cre\u0300me bru\u0302le\u0301e 42"); !got || err != nil {
		t.Errorf("fits = %v, %v", got, err)
	}
}

func TestEasyPasswordsAreRefused(t *testing.T) {
	for password, ok := range map[string]bool{
		"short":                          false,
		"elevenchars":                    false,
		"twelve chars":                   true,
		"plum lamp otter":                true,
		"пароль для миграций":            true,
		"密码密码密码密码密码密码":                   false, // two different characters
		"天地玄黄宇宙洪荒日月盈昃":                   true,
		strings.Repeat("plumlamp", 32):   true,
		strings.Repeat("plumlamp", 33):   false,
		strings.Repeat("x", 1<<20):       false,
		"aaaaaaaaaaaaaaaa":               false,
		"abababababababab":               false,
		"123456789012":                   false,
		"abcdefghijklmnop":               false,
		"zyxwvutsrqponmlk":               false,
		"password1234":                   false,
		"PassWord1234":                   false,
		"ｐａｓｓｗｏｒｄ１２３４":                   false, // the same in wide letters
		"QwertyUiop12":                   false,
		"ｑｗｅｒｔｙｕｉｏｐ１２":                   false,
		"correct horse battery staple":   false,
		"hyper2kvm-marta":                false,
		"marta-marta-marta":              false,
		"hyper2kvm is what we move with": true,
		"with a\ttab inside":             false,
		"with a\x00 in it...":            false,
		"not UTF-8 \xff\xfe in it":       false,
	} {
		if err := auth.CheckPassword("marta", password); (err == nil) != ok || err != nil && !errors.Is(err, auth.ErrInput) {
			t.Errorf("checkPassword(%.30q) = %v, want accepted: %v", password, err, ok)
		} else if err != nil && len(password) > 6 && strings.Contains(err.Error(), password) {
			t.Errorf("the refusal tells the password: %v", err)
		}
	}
}

func TestChangingOnesPasswordWantsTheCurrentOneAndEndsAllSessions(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Operator)
	one, two := h.login("ops"), h.annex().login("ops")
	_, err := h.ChangePassword(t.Context(), one.Principal, "not it", password("new"))
	wants(t, "a wrong current password", err, auth.ErrWrong)
	_, err = h.ChangePassword(t.Context(), one.Principal, password("ops"), "short")
	wants(t, "a short new password", err, auth.ErrInput)
	h.is(two, "ops", auth.Operator)
	three, err := h.ChangePassword(t.Context(), one.Principal, password("ops"), password("new"))
	must(t, err)
	h.ended(one)
	h.ended(two)
	h.is(three, "ops", auth.Operator)
	_, err = h.Login(t.Context(), here, "ops", password("ops"))
	wants(t, "the old password", err, auth.ErrWrong)
	_, err = h.ChangePassword(t.Context(), one.Principal, password("new"), password("third"))
	wants(t, "from a session that ended", err, auth.ErrUnauthenticated)
}

func TestOnlyASessionChangesItsOwnPassword(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	s := h.login("ops")
	text, _, err := h.CreateToken(t.Context(), s.Principal, auth.NewToken{Name: "ci", Role: auth.Admin, Scopes: []auth.Scope{"access:write"}})
	must(t, err)
	token, err := h.Token(t.Context(), here, string(text))
	must(t, err)
	for _, by := range []auth.Principal{token, root, {}, {Name: "ops", Role: auth.Admin, By: auth.BySession}} {
		_, err := h.ChangePassword(t.Context(), by, password("ops"), password("new"))
		wants(t, "ChangePassword by "+string(by.By), err, auth.ErrForbidden)
	}
	wants(t, "SetPassword of one's own", h.SetPassword(t.Context(), s.Principal, "ops", password("new")), auth.ErrForbidden)
	must(t, h.SetPassword(t.Context(), root, "ops", password("new")))
	h.ended(s)
}
