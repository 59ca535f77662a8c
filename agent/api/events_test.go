package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// follow reads a stream of events until one has a text.
func (h *harness) follow(t *testing.T, text string, headers ...string) (ids, lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", h.URL+base+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.tokens["viewer"])
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	reply, err := h.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	in := bufio.NewScanner(reply.Body)
	for in.Scan() {
		if id, ok := strings.CutPrefix(in.Text(), "id: "); ok {
			ids = append(ids, id)
		}
		if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
			if lines = append(lines, data); strings.Contains(data, text) {
				return ids, lines
			}
		}
	}
	t.Fatalf("the stream ended without %s: %v, %q", text, in.Err(), lines)
	return nil, nil
}

func TestEventsGoOnWhereAClientWas(t *testing.T) {
	h := newHarness(t, done)
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx"))
	ids, lines := h.follow(t, `"state":"done"`, "Last-Event-ID", "0")
	if len(lines) < 2 || !strings.Contains(lines[0], `"state":"queued"`) {
		t.Fatalf("it tells %q", lines)
	}
	again, rest := h.follow(t, `"state":"done"`, "Last-Event-ID", ids[0])
	if len(rest) != len(lines)-1 || again[0] != ids[1] {
		t.Errorf("after event %s come %v: %q", ids[0], again, rest)
	}
	var e model.Event
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || e.Name != "a" {
		t.Errorf("the event is %+v, %v", e, err)
	}
}
