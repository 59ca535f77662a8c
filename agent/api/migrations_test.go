package api

import (
	"fmt"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
)

func TestAMigrationIsBegunAndFollowed(t *testing.T) {
	h := newHarness(t, done)
	a := h.ask(t, "operator", "POST", "/migrations", request("web01/web01.vmx"))
	var op model.Operation
	a.into(t, &op)
	if a.status != 202 || a.header.Get("Location") != base+"/operations/"+op.ID || a.header.Get("Retry-After") == "" {
		t.Fatalf("it answers %d, %v, %s", a.status, a.header, a.body)
	}
	m, _ := h.until(t, op.Migration, model.StateDone)
	if m.Name != "web01" || m.Verdict != model.VerdictProved {
		t.Errorf("it ended as %+v", m)
	}
	a = h.ask(t, "viewer", "GET", "/operations/"+op.ID, nil)
	if a.into(t, &op); !op.Done || a.header.Get("Retry-After") != "" {
		t.Errorf("its operation is %+v, ask again after %q", op, a.header.Get("Retry-After"))
	}
}

func TestTheSameKeyIsTheSameRequest(t *testing.T) {
	h := newHarness(t, done)
	var first, second model.Operation
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx"), "Idempotency-Key", "k").into(t, &first)
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx"), "Idempotency-Key", "k").into(t, &second)
	if first.ID != second.ID {
		t.Errorf("the same key gave %s and %s", first.ID, second.ID)
	}
	if a := h.ask(t, "operator", "POST", "/migrations", request("b.vmx"), "Idempotency-Key", "k"); a.status != 422 || a.problem(t).Code != "key-reused" {
		t.Errorf("the key for another request: %d %s", a.status, a.body)
	}
	h.ask(t, "admin", "POST", "/migrations", request("b.vmx"), "Idempotency-Key", "k").into(t, &second)
	if first.ID == second.ID {
		t.Error("somebody else's key is taken for one's own")
	}
}

func TestWhoHasNotSeenTheLastChangeIsRefused(t *testing.T) {
	h := newHarness(t, waits)
	var op model.Operation
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx")).into(t, &op)
	_, etag := h.until(t, op.Migration, model.StateRunning)
	if a := h.ask(t, "operator", "PATCH", "/migrations/"+op.Migration, `{"schedule":{"priority":3}}`, "If-Match", etag); a.status != 200 || a.header.Get("ETag") == etag {
		t.Errorf("PATCH: %d %s", a.status, a.body)
	}
	if a := h.ask(t, "operator", "POST", "/migrations/"+op.Migration+"/pause", nil, "If-Match", etag); a.status != 412 || a.problem(t).Code != "changed" {
		t.Errorf("pause: %d %s", a.status, a.body)
	}
	if a := h.ask(t, "operator", "POST", "/migrations/"+op.Migration+"/cancel", nil); a.status != 202 {
		t.Errorf("cancel: %d %s", a.status, a.body)
	}
	h.until(t, op.Migration, model.StateCancelled)
	if a := h.ask(t, "operator", "DELETE", "/migrations/"+op.Migration, nil); a.status != 204 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	if a := h.ask(t, "viewer", "GET", "/migrations/"+op.Migration, nil); a.status != 404 || a.problem(t).Code != "no-such-migration" {
		t.Errorf("GET: %d %s", a.status, a.body)
	}
}

func TestListsComeInPages(t *testing.T) {
	h := newHarness(t, done)
	for i := range 7 {
		h.ask(t, "operator", "POST", "/migrations", request(fmt.Sprintf("vm%d.vmx", i)))
	}
	var names []string
	cursor := ""
	for range 4 {
		var page model.MigrationList
		h.ask(t, "viewer", "GET", "/migrations?limit=3&cursor="+cursor, nil).into(t, &page)
		for _, m := range page.Items {
			names = append(names, m.Name)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "vm6 vm5 vm4 vm3 vm2 vm1 vm0" {
		t.Errorf("the pages hold %s", got)
	}
	var page model.MigrationList
	if h.ask(t, "viewer", "GET", "/migrations?name=VM3", nil).into(t, &page); len(page.Items) != 1 {
		t.Errorf("by name: %+v", page.Items)
	}
	if h.ask(t, "viewer", "GET", "/migrations?state=failed&state=paused", nil).into(t, &page); len(page.Items) != 0 {
		t.Errorf("by state: %+v", page.Items)
	}
}
