package api

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
)

func TestRolesHold(t *testing.T) {
	h := newHarness(t, done)
	for _, c := range []struct {
		role, method, path string
		body               any
		status             int
	}{
		{"", "GET", "/migrations", nil, 401},
		{"viewer", "GET", "/migrations", nil, 200},
		{"viewer", "POST", "/migrations", request("a.vmx"), 403},
		{"operator", "POST", "/migrations", request("a.vmx"), 202},
		{"viewer", "POST", "/migrations/x/cancel", nil, 403},
		{"", "GET", "/events", nil, 401},
		{"", "GET", "/migrations/x/files/y", nil, 401},
	} {
		if a := h.ask(t, c.role, c.method, c.path, c.body); a.status != c.status {
			t.Errorf("%s %s as %q: %d %s", c.method, c.path, c.role, a.status, a.body)
		}
	}
	if a := h.ask(t, "", "GET", "/migrations", nil, "Authorization", "Bearer h2k_wrong"); a.status != 401 || a.problem(t).Code != "unauthenticated" {
		t.Errorf("a wrong token: %d %s", a.status, a.body)
	}
	if a := h.ask(t, "operator", "POST", "/migrations", request("a.vmx"), "Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site"); a.status != 403 {
		t.Errorf("from another site: %d %s", a.status, a.body)
	}
}

// TestTheDescriptionTellsTheRole: what is said of an operation is what is held.
func TestTheDescriptionTellsTheRole(t *testing.T) {
	for path, item := range described(t).Paths.Map() {
		for method, op := range item.Operations() {
			role, _ := op.Extensions["x-role"].(string)
			if said := strings.Contains(op.Description, "role "+role) || strings.Contains(op.Description, role+" for all else") || role == "none"; !said {
				t.Errorf("%s %s needs %s, and its description says %q", method, path, role, op.Description)
			}
		}
	}
}

func TestWhatEverybodyMayRead(t *testing.T) {
	h := newHarness(t, done)
	for path, want := range map[string]string{"/healthz": "alive", "/readyz": "ready", "/openapi.yaml": "openapi: 3.1.0", "/reference": "Begin a migration", "/reference.css": "body {"} {
		reply, err := h.Client().Get(h.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reply.Body)
		if err := reply.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil || reply.StatusCode != 200 || !strings.Contains(string(text), want) || reply.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d, %v", path, reply.StatusCode, err)
		}
	}
}

func TestMetricsAreForThoseWhoLogIn(t *testing.T) {
	h := newHarness(t, done)
	var op model.Operation
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx")).into(t, &op)
	h.until(t, op.Migration, model.StateDone)
	for role, want := range map[string]int{"": 401, "viewer": 200} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", h.URL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if role != "" {
			r.Header.Set("Authorization", "Bearer "+h.tokens[role])
		}
		reply, err := h.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reply.Body)
		if err := errors.Join(err, reply.Body.Close()); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{`hyper2kvm_migrations{state="done"} 1`, `hyper2kvm_migrations_done{verdict="proved"} 1`, `hyper2kvm_appliances{alive="true"} 1`,
			`hyper2kvm_http_request_seconds_count{method="POST",path="/api/v1/migrations",status="202"} 1`} {
			if reply.StatusCode != want || want == 200 && !strings.Contains(string(text), line) {
				t.Errorf("as %q: %d, without %s:\n%s", role, reply.StatusCode, line, text)
			}
		}
	}
}
