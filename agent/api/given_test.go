package api

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/fixers"
	"hyper2kvm/fixers/guest"
)

// planOf is one whose only change brings so many bytes.
func planOf(t *testing.T, size int) map[string]any {
	t.Helper()
	text, err := json.Marshal(fixers.Plan{Changes: []guest.Change{{Fixer: "linux/x", Path: "/etc/x", Data: make([]byte, size)}}})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"spec": request("done.vmx")["spec"], "plan": json.RawMessage(text)}
}

func TestAMigrationIsAskedForWithItsPlan(t *testing.T) {
	var worked atomic.Pointer[engine.Record]
	h := newHarness(t, func(ctx context.Context, j engine.Job) (engine.Result, error) {
		worked.Store(&j.Record)
		return done(ctx, j)
	})
	const large = 3 << 20 // bytes; more than any other request may have
	var op model.Operation
	h.want(t, "operator", "POST", "/migrations", planOf(t, large), 202, "").into(t, &op)
	m, _ := h.until(t, op.Migration, model.StateDone)
	plan, err := h.engine.Plan(t.Context(), *worked.Load())
	if err != nil || m.GivenPlan == "" {
		t.Fatalf("it has the plan %q, %v", m.GivenPlan, err)
	}
	p, err := fixers.Parse(plan)
	if err != nil || len(p.Changes) != 1 || len(p.Changes[0].Data) != large {
		t.Errorf("the plan has %d bytes and %d changes, %v", len(plan), len(p.Changes), err)
	}
	var files struct{ Items []model.File }
	h.want(t, "viewer", "GET", "/migrations/"+op.Migration+"/files", nil, 200, "").into(t, &files)
	if len(files.Items) != 1 || !files.Items[0].Kept {
		t.Fatalf("its files are %+v", files.Items)
	}
	if a := h.want(t, "viewer", "GET", "/migrations/"+op.Migration+"/files/"+files.Items[0].Path, nil, 200, ""); string(a.body) != string(plan) {
		t.Errorf("downloaded it has %d bytes", len(a.body))
	}
}

func TestAPlanThatCannotBeAppliedIsRefused(t *testing.T) {
	h := newHarness(t, done)
	with := func(plan any, mode string) map[string]any {
		r := request("done.vmx")
		r["spec"].(map[string]any)["mode"] = mode
		r["plan"] = plan
		return r
	}
	for name, c := range map[string]struct {
		body   any
		status int
		detail string
	}{
		"other JSON":   {with(map[string]any{"spec": 1}, "migrate"), 422, "the plan has no list of changes"},
		"not a plan":   {with(map[string]any{"changes": 1}, "migrate"), 422, "the plan is not JSON of a plan"},
		"no object":    {with("plan", "migrate"), 400, ""},
		"to look with": {with(map[string]any{"changes": []any{}}, "plan"), 422, "is not applied by plan"},
		"to test with": {with(map[string]any{"changes": []any{}}, "test"), 422, "is not applied by test"},
		"too large":    {planOf(t, 7<<20), 413, ""},
	} {
		if p := h.want(t, "operator", "POST", "/migrations", c.body, c.status, "").problem(t); !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: %s", name, p.Detail)
		}
	}
	h.want(t, "operator", "POST", "/batches", strings.Repeat(" ", 3<<20), 413, "too-large")
	h.want(t, "operator", "POST", "/migrations?validateOnly=true", with(map[string]any{"changes": []any{}}, "rehearse"), 200, "")
}

func TestWhatOnlyLooksNeedsNoTarget(t *testing.T) {
	h := newHarness(t, done)
	source := map[string]any{"storage": "vmware", "path": "web01/web01.vmx"}
	for mode, status := range map[string]int{"plan": 202, "inspect": 202, "rehearse": 422, "test": 422, "migrate": 422} {
		h.want(t, "operator", "POST", "/migrations", map[string]any{"spec": map[string]any{"mode": mode, "source": source}}, status, "")
	}
}
