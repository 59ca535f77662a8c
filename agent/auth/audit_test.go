package auth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/auth"
)

func TestEverythingIsRecordedAndNoSecret(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	code := h.firstCode()
	_, err := h.FirstAdmin(ctx, here, auth.NewCode(), "ops", password("ops"))
	wants(t, "a wrong code", err, auth.ErrNoCode)
	s, err := h.FirstAdmin(ctx, here, code, "ops", password("ops"))
	must(t, err)
	ops := h.is(s, "ops", auth.Admin)
	must(t, h.CreateUser(ctx, ops, "zoe", auth.Viewer, password("zoe")))
	wants(t, "a bad password", h.CreateUser(ctx, ops, "bad", auth.Viewer, "password1234"), auth.ErrInput)
	zoe, err := h.Login(ctx, here, "zoe", password("zoe"))
	must(t, err)
	_, err = h.Login(ctx, elsewhere, "zoe", "wrong "+secretWord)
	wants(t, "a wrong password", err, auth.ErrWrong)
	_, err = h.Login(ctx, elsewhere, secretWord, "zoe") // the fields were mixed up
	wants(t, "a wrong name", err, auth.ErrWrong)
	wants(t, "a viewer's change", h.SetRole(ctx, zoe.Principal, "zoe", auth.Admin), auth.ErrForbidden)
	zoe, err = h.ChangePassword(ctx, zoe.Principal, password("zoe"), password("new"))
	must(t, err)
	must(t, h.Logout(ctx, zoe.Principal))
	must(t, h.SetRole(ctx, ops, "zoe", auth.Operator))
	must(t, h.DisableUser(ctx, ops, "zoe"))
	_, err = h.Login(ctx, elsewhere, "zoe", password("new"))
	wants(t, "a disabled user", err, auth.ErrWrong)
	must(t, h.EnableUser(ctx, ops, "zoe"))
	must(t, h.EndSessions(ctx, ops, "zoe"))
	must(t, h.SetPassword(ctx, ops, "zoe", password("other")))
	must(t, h.RemoveUser(ctx, ops, "zoe"))
	text, token := h.token(ops, auth.NewToken{Name: "ci", Role: auth.Viewer, Scopes: []auth.Scope{"events:read"}})
	must(t, h.RevokeToken(ctx, ops, token.ID))
	h.refused(text)
	must(t, h.AddCertificate(ctx, ops, auth.Certificate{Name: "cert", Fingerprint: fingerprint("c"), Role: auth.Viewer}))
	must(t, h.RemoveCertificate(ctx, ops, fingerprint("c")))

	var got []string
	for _, e := range h.audit.Entries() {
		got = append(got, strings.TrimRight(fmt.Sprint(e.Principal.Name, "@", e.From, " ", e.Action, " ", e.Target, " ", e.Outcome, " ", e.Detail), " "))
		if !e.Time.Equal(h.clock.Now()) {
			t.Errorf("the time of %+v", e)
		}
	}
	refused := auth.ErrWrong.Error()
	want := []string{
		"appliance@ code.make  done",
		"@192.0.2.7 code.use  refused " + auth.ErrNoCode.Error(),
		"ops@192.0.2.7 code.use ops done",
		"ops@192.0.2.7 user.create zoe done viewer",
		"ops@192.0.2.7 user.create bad refused cannot be used: the new password is one of those that are tried first",
		"zoe@192.0.2.7 login zoe done",
		"@198.51.100.9 login zoe refused " + refused,
		"@198.51.100.9 login  refused " + refused,
		"zoe@192.0.2.7 user.role zoe refused not allowed: this needs the role admin, and of a token the scope access:write",
		"zoe@192.0.2.7 user.password zoe done",
		"zoe@192.0.2.7 logout  done",
		"ops@192.0.2.7 user.role zoe done operator",
		"ops@192.0.2.7 user.disable zoe done",
		"@198.51.100.9 login zoe refused " + refused + " (the user is disabled)",
		"ops@192.0.2.7 user.enable zoe done",
		"ops@192.0.2.7 user.logout zoe done",
		"ops@192.0.2.7 user.password zoe done",
		"ops@192.0.2.7 user.remove zoe done",
		"ops@192.0.2.7 token.create ci done viewer [events:read]",
		"ops@192.0.2.7 token.revoke ci done " + token.ID,
		"@192.0.2.7 token.use  refused " + auth.ErrUnauthenticated.Error(),
		"ops@192.0.2.7 certificate.add cert done viewer",
		"ops@192.0.2.7 certificate.remove  done " + fingerprint("c"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	text2, err := json.Marshal(h.audit.Entries())
	must(t, err)
	all := string(text2) + fmt.Sprintf("%+v %#v", h.audit.Entries(), h.audit.Entries())
	for _, secret := range []string{secretWord, "password1234", code, strings.ReplaceAll(code, "-", ""), text[4:], string(s.Value), string(zoe.Value)} {
		if strings.Contains(all, secret) {
			t.Errorf("an entry holds %q", secret)
		}
		if kept := h.kept(); strings.Contains(kept, secret) {
			t.Errorf("the store holds %q", secret)
		}
	}
	var back []auth.Entry
	must(t, json.Unmarshal(text2, &back))
}
