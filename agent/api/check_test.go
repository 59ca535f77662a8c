package api

import (
	"strings"
	"testing"
)

// TestACheckSaysWhatIsWrongInOneLine, and nothing of what it looked at.
func TestACheckSaysWhatIsWrongInOneLine(t *testing.T) {
	h := newHarness(t, done)
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/setup", `{"code":"x","name":"my secret","password":"x"}`, `the body: name: string doesn't match the regular expression "^[a-z][a-z0-9._-]{0,62}$"`},
		{"POST", "/certificates", `{"name":"x","role":"viewer","expires":"my secret"}`, `the body: expires: string doesn't match the format "date-time"`},
		{"POST", "/session", `{"name":"x","password":["my secret"]}`, "the body: password: value must be a string"},
		{"POST", "/session", `{"name":"x"}`, `the body: password: property "password" is missing`},
		{"DELETE", "/secrets/MY-secret", "", `the parameter secret: it does not match the pattern '^[a-z0-9][a-z0-9-]{0,62}$'`},
		{"GET", "/migrations?limit=0", "", "the parameter limit: minimum: got 0, want 1"},
	} {
		var body any
		if c.body != "" {
			body = c.body
		}
		if a := h.ask(t, "socket", c.method, c.path, body); a.status != 400 || a.problem(t).Detail != c.want {
			t.Errorf("%s %s: %d %q, want %q", c.method, c.path, a.status, a.problem(t).Detail, c.want)
		}
	}
}

func TestBadRequestsSayWhatIsWrong(t *testing.T) {
	h := newHarness(t, done)
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		code, text   string
	}{
		{"POST", "/migrations", `{`, 400, "bad-request", "the body"},
		{"POST", "/migrations", `{"spec":{"source":{"storage":"vmware","path":"a.vmx"}}}`, 422, "bad-spec", "target is missing"},
		{"POST", "/migrations", `{"spec":{"source":{"storage":"vmware","path":"a.vmx"},"target":{"storage":"kvm"},"speed":1}}`, 400, "bad-request", "speed"},
		{"POST", "/migrations", `{"id":"Not An ID","spec":{"source":{"storage":"vmware","path":"a.vmx"},"target":{"storage":"kvm"}}}`, 400, "bad-request", "id"},
		{"POST", "/migrations", request("../../etc/passwd"), 422, "bad-spec", "leads out of the storage"},
		{"POST", "/migrations", `{"spec":{"source":{"storage":"none","path":"a.vmx"},"target":{"storage":"kvm"}}}`, 422, "bad-spec", `"none"`},
		{"POST", "/migrations", `{"spec":{"source":{"storage":"vmware","path":"a.vmx"},"target":{"storage":"kvm"},"schedule":{"windows":["someday"]}}}`, 422, "bad-spec", "someday"},
		{"GET", "/migrations?limit=0", nil, 400, "bad-request", "limit"},
		{"GET", "/migrations/none", nil, 404, "no-such-migration", "none"},
		{"GET", "/operations/none.1", nil, 404, "no-such-operation", "none.1"},
		{"GET", "/nothing", nil, 404, "no-such-path", ""},
		{"PUT", "/migrations", nil, 404, "no-such-path", ""},
	} {
		a := h.ask(t, "operator", c.method, c.path, c.body)
		if p := a.problem(t); a.status != c.status || p.Code != c.code || !strings.Contains(p.Detail, c.text) || p.Instance == "" || p.Title == "" {
			t.Errorf("%s %s %v: %d %s", c.method, c.path, c.body, a.status, a.body)
		}
	}
}
