package auth_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/auth"
)

// token makes one, and returns its text.
func (h *house) token(by auth.Principal, n auth.NewToken) (string, auth.Token) {
	h.t.Helper()
	text, shown, err := h.CreateToken(h.t.Context(), by, n)
	must(h.t, err)
	return string(text), shown
}

// shows wants a token to be of somebody.
func (h *house) shows(text, name string, role auth.Role) auth.Principal {
	h.t.Helper()
	p, err := h.Token(h.t.Context(), here, text)
	if err != nil || p.Name != name || p.Role != role || p.By != auth.ByToken {
		h.t.Fatalf("the token is of %+v, %v, want %s, %v", p, err, name, role)
	}
	return p
}

func (h *house) refused(text string) {
	h.t.Helper()
	p, err := h.Token(h.t.Context(), here, text)
	wants(h.t, fmt.Sprintf("a token that has ended, of %+v", p), err, auth.ErrUnauthenticated)
}

func TestATokenIsItsOwners(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Operator)
	text, shown := h.token(h.login("ops").Principal, auth.NewToken{Name: "ci", Role: auth.Operator})
	if !regexp.MustCompile(`^h2k_[a-z2-7]{52}$`).MatchString(text) {
		t.Errorf("the token is %q", text)
	}
	if strings.Contains(h.kept(), text[4:]) {
		t.Error("it is kept in clear")
	}
	if want := h.clock.Now().Add(90 * 24 * time.Hour); !shown.Expires.Equal(want) {
		t.Errorf("it expires %v, want %v", shown.Expires, want)
	}
	p := h.shows(text, "ops", auth.Operator)
	must(t, h.SetRole(t.Context(), root, "ops", auth.Viewer))
	h.shows(text, "ops", auth.Viewer)
	wants(t, "Recheck", h.Recheck(t.Context(), p), auth.ErrUnauthenticated)
	must(t, h.SetRole(t.Context(), root, "ops", auth.Admin))
	h.shows(text, "ops", auth.Operator) // not more than it was given
	must(t, h.SetPassword(t.Context(), root, "ops", password("new")))
	h.shows(text, "ops", auth.Operator)
	h.user("admin", auth.Admin)
	must(t, h.DisableUser(t.Context(), root, "ops"))
	h.refused(text)
	must(t, h.EnableUser(t.Context(), root, "ops"))
	h.shows(text, "ops", auth.Operator)
	must(t, h.RemoveUser(t.Context(), root, "ops"))
	h.refused(text)
	h.user("ops", auth.Admin)
	h.refused(text)
}

func TestATokenEnds(t *testing.T) {
	h := newHouse(t)
	text, shown := h.token(root, auth.NewToken{Name: "ci", Role: auth.Viewer, Life: time.Hour})
	p := h.shows(text, "root", auth.Viewer)
	h.clock.pass(time.Hour - time.Second)
	h.shows(text, "root", auth.Viewer)
	must(t, h.Recheck(t.Context(), p))
	h.clock.pass(time.Second)
	h.refused(text)
	wants(t, "Recheck", h.Recheck(t.Context(), p), auth.ErrUnauthenticated)
	must(t, h.Sweep(t.Context()))
	if list, err := h.Tokens(t.Context(), root); err != nil || len(list) != 1 || list[0].ID != shown.ID {
		t.Errorf("listed are %+v, %v", list, err)
	}
	h.clock.pass(30 * 24 * time.Hour)
	must(t, h.Sweep(t.Context()))
	if list, err := h.Tokens(t.Context(), root); err != nil || len(list) != 0 {
		t.Errorf("listed are %+v, %v", list, err)
	}
}

func TestARevokedTokenIsRefusedEverywhereAtOnce(t *testing.T) {
	h := newHouse(t)
	other := h.annex()
	text, shown := h.token(root, auth.NewToken{Name: "ci", Role: auth.Viewer})
	p := other.shows(text, "root", auth.Viewer)
	must(t, h.RevokeToken(t.Context(), root, shown.ID))
	other.refused(text)
	wants(t, "Recheck", other.Recheck(t.Context(), p), auth.ErrUnauthenticated)
	wants(t, "a second revocation", h.RevokeToken(t.Context(), root, shown.ID), auth.ErrNotFound)
}

func TestWhatATokenCannotBe(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Operator)
	ops := h.login("ops").Principal
	text, _ := h.token(root, auth.NewToken{Name: "parent", Role: auth.Admin, Scopes: []auth.Scope{"access:write"}})
	token := h.shows(text, "root", auth.Admin)
	text, _ = h.token(root, auth.NewToken{Name: "unscoped", Role: auth.Admin})
	unscoped := h.shows(text, "root", auth.Admin)
	for _, c := range []struct {
		by   auth.Principal
		n    auth.NewToken
		want error
	}{
		{ops, auth.NewToken{Name: "x", Role: auth.Admin}, auth.ErrForbidden},
		{ops, auth.NewToken{Name: "x"}, auth.ErrInput},
		{ops, auth.NewToken{Name: "x", Role: 99}, auth.ErrInput},
		{token, auth.NewToken{Name: "x", Role: auth.Viewer}, auth.ErrForbidden},
		{unscoped, auth.NewToken{Name: "x", Role: auth.Viewer}, auth.ErrForbidden},
		{auth.Principal{Name: "ops", Role: auth.Admin}, auth.NewToken{Name: "x", Role: auth.Viewer}, auth.ErrForbidden},
		{ops, auth.NewToken{Name: "", Role: auth.Viewer}, auth.ErrInput},
		{ops, auth.NewToken{Name: "a\nb", Role: auth.Viewer}, auth.ErrInput},
		{ops, auth.NewToken{Name: "x", Role: auth.Viewer, Life: 366*24*time.Hour + 1}, auth.ErrInput},
		{ops, auth.NewToken{Name: "x", Role: auth.Viewer, Life: -time.Hour}, auth.ErrInput},
		{ops, auth.NewToken{Name: "x", Role: auth.Viewer, Scopes: []auth.Scope{"all"}}, auth.ErrInput},
		{ops, auth.NewToken{Name: "x", Role: auth.Viewer, Scopes: []auth.Scope{"migrations:delete"}}, auth.ErrInput},
		{ops, auth.NewToken{Name: "x", Role: auth.Viewer, Scopes: make([]auth.Scope, 1000)}, auth.ErrInput},
	} {
		_, _, err := h.CreateToken(t.Context(), c.by, c.n)
		wants(t, fmt.Sprintf("%.200v", c.n), err, c.want)
	}
}

func TestScopesBoundAToken(t *testing.T) {
	may := func(by auth.By, scopes ...auth.Scope) (may []string) {
		p := auth.Principal{Role: auth.Operator, By: by, Scopes: scopes}
		for _, s := range []auth.Scope{"migrations:read", "migrations:write", "events:read", "access:read", "access:write"} {
			if p.May(auth.Viewer, s) {
				may = append(may, string(s))
			}
			if p.May(auth.Admin, s) {
				t.Errorf("an operator may do an admin's %s", s)
			}
		}
		return may
	}
	for _, c := range []struct{ got, want []string }{
		{may(auth.ByToken, "migrations:write"), []string{"migrations:read", "migrations:write"}},
		{may(auth.ByToken, "migrations:read", "events:read"), []string{"migrations:read", "events:read"}},
		{may(auth.ByToken, "access:write"), []string{"access:read", "access:write"}},
		{may(auth.ByToken), []string{"migrations:read", "migrations:write", "events:read", "access:read"}},
		{may(auth.BySession), []string{"migrations:read", "migrations:write", "events:read", "access:read", "access:write"}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestTokensAreSeenAndRevokedByTheirOwnerAndAdmins(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Operator)
	h.user("zoe", auth.Viewer)
	ops, zoe := h.login("ops").Principal, h.login("zoe").Principal
	text, first := h.token(ops, auth.NewToken{Name: "a", Role: auth.Viewer, Scopes: []auth.Scope{"events:read"}})
	_, second := h.token(root, auth.NewToken{Name: "b", Role: auth.Admin})
	h.shows(text, "ops", auth.Viewer)
	first.Used = h.clock.Now().Truncate(time.Hour)
	for who, want := range map[auth.By][]auth.Token{auth.BySocket: {first, second}, auth.BySession: {first}} {
		by := map[auth.By]auth.Principal{auth.BySocket: root, auth.BySession: h.login("ops").Principal}[who]
		got, err := h.Tokens(t.Context(), by)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("seen by %s: %s", who, diff)
		}
	}
	if list, err := h.Tokens(t.Context(), zoe); err != nil || len(list) != 0 {
		t.Errorf("another sees %+v, %v", list, err)
	}
	wants(t, "another's revocation", h.RevokeToken(t.Context(), zoe, first.ID), auth.ErrForbidden)
	wants(t, "no ID", h.RevokeToken(t.Context(), root, "../access"), auth.ErrNotFound)
	must(t, h.RevokeToken(t.Context(), ops, first.ID))
	must(t, h.RevokeToken(t.Context(), root, second.ID))
}

// A record of another token at a key, made by who can write the store alone, is no way in.
func TestOfATokenTheWholeHashCounts(t *testing.T) {
	h := newHouse(t)
	text, shown := h.token(root, auth.NewToken{Name: "a", Role: auth.Admin})
	data, revision, err := h.store.Read(t.Context(), "tokens."+shown.ID)
	must(t, err)
	must(t, h.store.Update(t.Context(), "tokens."+shown.ID, []byte(strings.Replace(string(data), `"hash":"`, `"hash":"0`, 1)), revision))
	h.refused(text)
}

func TestBearer(t *testing.T) {
	text := "h2k_" + strings.Repeat("a", 52)
	for header, ok := range map[string]bool{
		"Bearer " + text: true, "bearer " + text: true, "Bearer  " + text + " ": true,
		"Bearer" + text: false, "Basic " + text: false, text: false, "": false, "Bearer ": false,
		"Bearer " + text + "a": false, "Bearer H2K_" + text[4:]: false, "Bearer " + text + "\n": false,
		"Bearer " + text + ", " + text: false,
	} {
		if got, is := auth.Bearer(header); is != ok || ok && got != text {
			t.Errorf("Bearer(%q) = %q, %v, want %v", header, got, is, ok)
		}
	}
}
