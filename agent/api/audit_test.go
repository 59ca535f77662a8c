package api

import (
	"slices"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
)

// TestWhatIsChangedIsAudited: once, with who, what and how it ended, and without what
// was sent.
func TestWhatIsChangedIsAudited(t *testing.T) {
	h := newHarness(t, done)
	var before struct{ Items []model.AuditEntry }
	h.ask(t, "admin", "GET", "/audit", nil).into(t, &before)
	cookie := h.founded(t)
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx"))
	h.ask(t, "operator", "POST", "/migrations", request("../a.vmx"))
	h.ask(t, "viewer", "PUT", "/secrets/x", `{"value":"x"}`)
	h.ask(t, "operator", "PUT", "/secrets/x", `{"value":"x"}`)
	h.ask(t, "", "POST", "/migrations", request("a.vmx"))
	h.ask(t, "", "POST", "/migrations", request("a.vmx"), "Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site", "Cookie", cookie)
	h.ask(t, "", "DELETE", "/users/none", nil, "Cookie", cookie)
	h.ask(t, "viewer", "DELETE", "/users/marta", nil)
	h.ask(t, "", "POST", "/session", map[string]string{"name": "marta", "password": "wrong"})
	h.ask(t, "", "POST", "/secrets/x", nil, "Authorization", "Bearer h2k_"+strings.Repeat("a", 52))
	h.ask(t, "viewer", "GET", "/audit", nil)
	var got []string
	var page model.AuditEntry
	cursor := ""
	for range 40 {
		var list struct {
			Items []model.AuditEntry
			Next  string
		}
		h.want(t, "admin", "GET", "/audit?limit=1"+cursor, nil, 200, "").into(t, &list)
		if page = list.Items[0]; page.Number == before.Items[0].Number {
			break
		}
		got = append(got, strings.Join([]string{page.Name, page.Action, page.Target, string(page.Outcome), page.Detail, page.From}, " "))
		cursor = "&cursor=" + list.Next
	}
	slices.Reverse(got)
	want := []string{
		"appliance code.make  done  ",
		"marta code.use marta done  127.0.0.1",
		"operator createMigration /api/v1/migrations done  127.0.0.1",
		"operator createMigration /api/v1/migrations refused bad-spec 127.0.0.1",
		"viewer putSecret /api/v1/secrets/x refused forbidden 127.0.0.1",
		"operator putSecret /api/v1/secrets/x done  127.0.0.1",
		" createMigration /api/v1/migrations refused unauthenticated 127.0.0.1",
		" createMigration /api/v1/migrations refused cross-origin 127.0.0.1",
		"marta user.remove none refused the user not found 127.0.0.1",
		"viewer removeUser /api/v1/users/marta refused forbidden 127.0.0.1",
		" login marta refused the name or the password is wrong 127.0.0.1",
		" token.use  refused not known, ended or revoked 127.0.0.1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
