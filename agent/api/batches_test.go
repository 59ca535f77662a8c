package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
)

const wave1 = `{"name": "wave1", "atOnce": 2, "schedule": {"priority": 3}, "defaults": {"target": {"storage": "kvm", "format": "raw"}},
 "migrations": [{"source": {"storage": "vmware", "path": "web01.vmx"}}, {"source": {"storage": "vmware", "path": "db01.vmx"}, "target": {"format": null}}, {"id": "own", "source": {"storage": "vmware", "path": "files.vmx"}}],
 "overrides": [{"match": "db*", "spec": {"grow": [{"disk": 0, "size": 42949672960}]}}],
 "groups": [{"name": "shop", "migrations": ["db01", "web01"]}]}`

// comes asks for a batch until it is such.
func (h *harness) comes(t *testing.T, name string, is func(model.Batch) bool) (b model.Batch) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a := h.ask(t, "viewer", "GET", "/batches/"+name, nil)
		b = model.Batch{}
		if a.into(t, &b); is(b) {
			return b
		}
		if time.Now().After(limit) {
			t.Fatalf("it is %s", a.body)
		}
	}
}

func TestABatchIsBegunFollowedAndForgotten(t *testing.T) {
	h := newHarness(t, done)
	var draft model.Batch
	a := h.ask(t, "operator", "POST", "/batches?validateOnly=true", wave1)
	if a.into(t, &draft); a.status != 200 || draft.Total != 3 || draft.Migrations[0].ID != "wave1-db01" {
		t.Errorf("it would be kept as %d %s", a.status, a.body)
	}
	if a := h.ask(t, "viewer", "GET", "/batches/wave1", nil); a.status != 404 || a.problem(t).Code != "no-such-batch" {
		t.Errorf("what was validated alone: %d %s", a.status, a.body)
	}
	if a = h.ask(t, "operator", "POST", "/batches", wave1); a.status != 202 || a.header.Get("Location") != base+"/batches/wave1" {
		t.Fatalf("it answers %d %v %s", a.status, a.header, a.body)
	}
	if a = h.ask(t, "admin", "POST", "/batches", wave1); a.status != 202 {
		t.Errorf("sent again: %d %s", a.status, a.body)
	}
	if a = h.ask(t, "operator", "POST", "/batches", strings.Replace(wave1, "web01.vmx", "web02.vmx", 1)); a.status != 422 {
		t.Errorf("a group of what is not there: %d %s", a.status, a.body)
	}
	if a = h.ask(t, "operator", "POST", "/batches", strings.Replace(wave1, "files.vmx", "other.vmx", 1)); a.status != 409 || a.problem(t).Code != "batch-exists" {
		t.Errorf("another one of its name: %d %s", a.status, a.body)
	}
	h.comes(t, "wave1", func(b model.Batch) bool { return b.Counts["done"] == 3 && b.Submitted })
	m, _ := h.until(t, "wave1-web01", model.StateDone)
	if s := m.Spec; m.Batch != "wave1" || s.Schedule.Priority != 3 || len(s.Schedule.After) != 1 || s.Schedule.After[0] != "wave1-db01" || s.Target.Format != "raw" {
		t.Errorf("web01 is %+v", m)
	}
	m, _ = h.until(t, "wave1-db01", model.StateDone)
	if m.Spec.Target.Format != "" || m.Spec.Grow[0].Size != 40<<30 {
		t.Errorf("db01 is %+v", m)
	}
	var list model.MigrationList
	if h.ask(t, "viewer", "GET", "/migrations?batch=wave1", nil).into(t, &list); len(list.Items) != 3 {
		t.Errorf("the migrations of it are %+v", list.Items)
	}
	if h.ask(t, "viewer", "GET", "/migrations?batch=wave2", nil).into(t, &list); len(list.Items) != 0 {
		t.Errorf("the migrations of another: %+v", list.Items)
	}
	if a = h.ask(t, "operator", "DELETE", "/batches/wave1", nil); a.status != 202 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	for limit := time.Now().Add(20 * time.Second); h.ask(t, "viewer", "GET", "/batches/wave1", nil).status != 404; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it is not forgotten")
		}
	}
}

func TestBadBatchesSayWhatIsWrong(t *testing.T) {
	h := newHarness(t, done)
	many := func(n int, path string) string {
		var entries []string
		for i := range n {
			entries = append(entries, fmt.Sprintf(`{"source": {"storage": "vmware", "path": "%s%d.vmx"}}`, path, i))
		}
		return `{"name": "w", "defaults": {"target": {"storage": "kvm"}}, "migrations": [` + strings.Join(entries, ",") + `]}`
	}
	for _, c := range []struct {
		body   string
		status int
		code   string
		text   string
	}{
		{`{"name": "w", "migrations": []}`, 400, "bad-request", "migrations"},
		{`{"name": "Not An ID", "migrations": [{}]}`, 400, "bad-request", "name"},
		{many(1001, "vm"), 400, "bad-request", "migrations"},
		{many(500, strings.Repeat("x", 2200)), 413, "too-large", "submit it in parts"},
		{`{"name": "w", "migrations": [{"source": {"storage": "vmware", "path": "a.vmx"}}]}`, 422, "bad-batch", "migrations[0].target: is missing"},
		{strings.Replace(many(2, "vm"), "vm1.vmx", "vm0.vmx", 1), 422, "bad-batch", "is the folder of the one"},
		{`{"name": "w", "defaults": {"engin": "direct"}, "migrations": [{}]}`, 422, "bad-batch", "defaults.engin: there is no such field: write engine"},
		{strings.Replace(many(1, "vm"), "kvm", "none", 1), 422, "bad-spec", `w-vm0: the spec cannot be used: no appliance has a storage that is called "none"`},
	} {
		a := h.ask(t, "operator", "POST", "/batches", c.body)
		if p := a.problem(t); a.status != c.status || p.Code != c.code || !strings.Contains(p.Detail, c.text) {
			t.Errorf("%.100s: %d %s", c.body, a.status, a.body)
		}
	}
	if a := h.ask(t, "viewer", "POST", "/batches", many(1, "vm")); a.status != 403 {
		t.Errorf("by a viewer: %d", a.status)
	}
	if a := h.ask(t, "operator", "POST", "/batches/none/pause", nil); a.status != 404 || a.problem(t).Code != "no-such-batch" {
		t.Errorf("none is paused: %d %s", a.status, a.body)
	}
	if a := h.ask(t, "operator", "POST", "/batches/none/undo", nil); a.status != 400 {
		t.Errorf("an order that there is not: %d %s", a.status, a.body)
	}
	if a := h.ask(t, "operator", "POST", "/batches", many(1000, "vm")); a.status != 202 {
		t.Errorf("the largest: %d %.200s", a.status, a.body)
	}
}

func TestAClientSubmitsABatch(t *testing.T) {
	h := newHarness(t, waits)
	c := h.client(t)
	r := model.BatchRequest{Name: "w", AtOnce: 1, Defaults: map[string]any{"target": map[string]any{"storage": "kvm"}},
		Migrations: []map[string]any{{"source": map[string]any{"storage": "vmware", "path": "a.vmx"}}, {"source": map[string]any{"storage": "vmware", "path": "b.vmx"}}}}
	if b, err := c.SubmitBatch(t.Context(), r, true); err != nil || b.Total != 2 {
		t.Fatalf("validated: %+v, %v", b, err)
	}
	if _, err := c.SubmitBatch(t.Context(), r, false); err != nil {
		t.Fatal(err)
	}
	h.comes(t, "w", func(b model.Batch) bool { return b.Counts["running"] == 1 && b.Counts["queued"] == 1 && b.Submitted })
	if b, err := c.OrderBatch(t.Context(), "w", model.BatchOrderPause); err != nil || b.Counts["paused"] != 2 || b.Pending != "" {
		t.Errorf("paused, it is %+v, %v", b, err)
	}
	if err := c.ForgetBatch(t.Context(), "w"); err == nil {
		t.Error("it is forgotten while it is paused")
	}
	if b, err := c.OrderBatch(t.Context(), "w", model.BatchOrderCancel); err != nil || b.Counts["cancelled"]+b.Counts["running"]+b.Counts["queued"] != 2 {
		t.Errorf("given up, it is %+v, %v", b, err)
	}
	h.comes(t, "w", func(b model.Batch) bool { return b.Counts["cancelled"] == 2 })
	if all, err := c.Batches(t.Context()); err != nil || len(all) != 1 || all[0].Name != "w" {
		t.Errorf("the batches are %+v, %v", all, err)
	}
	if err := c.ForgetBatch(t.Context(), "w"); err != nil {
		t.Error(err)
	}
	if _, err := c.Batch(t.Context(), "w"); !isCode(err, "no-such-batch") {
		t.Errorf("forgotten, it is %v", err)
	}
}

func isCode(err error, code string) bool {
	r, ok := errors.AsType[*client.Refusal](err)
	return ok && r.Code == code
}
