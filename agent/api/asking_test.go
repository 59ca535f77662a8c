package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// answer is a reply, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

func (a answer) problem(t *testing.T) (p model.Problem) {
	t.Helper()
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Fatalf("%d is told as %s: %s", a.status, kind, a.body)
	}
	a.into(t, &p)
	return p
}

// ask sends a request as somebody, at the socket too, and holds the reply to the
// description. Headers come in pairs.
func (h *harness) ask(t testing.TB, role, method, path string, body any, headers ...string) answer {
	t.Helper()
	var send io.Reader
	if body != nil {
		text, ok := body.(string)
		if !ok {
			encoded, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			text = string(encoded)
		}
		send = strings.NewReader(text)
	}
	at := h.URL
	if role == "socket" {
		at = h.socket.URL
	}
	r, err := http.NewRequestWithContext(t.Context(), method, at+base+path, send)
	if err != nil {
		t.Fatal(err)
	}
	if send != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if h.tokens[role] != "" {
		r.Header.Set("Authorization", "Bearer "+h.tokens[role])
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	reply, err := h.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	h.hold(t, r, reply, text)
	return answer{reply.StatusCode, reply.Header, text}
}

// hold compares a reply with the description.
func (h *harness) hold(t testing.TB, r *http.Request, reply *http.Response, body []byte) {
	t.Helper()
	route, params, err := h.router.FindRoute(r)
	if err != nil {
		return // it is not described, and answered with 404
	}
	in := &openapi3filter.ResponseValidationInput{RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status: reply.StatusCode, Header: reply.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	if kind := reply.Header.Get("Content-Type"); strings.HasPrefix(kind, "application/octet-stream") || kind == "text/event-stream" {
		in.Options.ExcludeResponseBody = true
	}
	if err := openapi3filter.ValidateResponse(t.Context(), in); err != nil {
		t.Errorf("%s %s answers what is not described: %v\n%s", r.Method, r.URL.Path, err, body)
	}
}

func request(path string) map[string]any {
	return map[string]any{"spec": map[string]any{"source": map[string]any{"storage": "vmware", "path": path}, "target": map[string]any{"storage": "kvm"}}}
}

// done is a worker that is done at once.
func done(context.Context, engine.Job) (engine.Result, error) {
	return engine.Result{Verdict: model.VerdictProved}, nil
}

// waits is a worker that works until it is stopped.
func waits(ctx context.Context, j engine.Job) (engine.Result, error) {
	if j.Task == engine.Clear {
		return engine.Result{}, nil
	}
	<-ctx.Done()
	return engine.Result{}, context.Cause(ctx)
}

// until asks for a migration until it is in a state.
func (h *harness) until(t testing.TB, id string, state model.State) (m model.Migration, etag string) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a := h.ask(t, "viewer", "GET", "/migrations/"+id, nil)
		m = model.Migration{}
		a.into(t, &m)
		if m.State == state {
			return m, a.header.Get("ETag")
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is %s, want %s", id, m.State, state)
		}
	}
}
