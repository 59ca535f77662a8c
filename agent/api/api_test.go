package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/backup"
	"hyper2kvm/agent/bundle"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/engine/enginetest"
	"hyper2kvm/agent/library"
	"hyper2kvm/agent/seal"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/upload"
)

// workerFunc plays a worker. It proves nothing of migrations: those are tested where
// they are made.
type workerFunc func(ctx context.Context, j engine.Job) (engine.Result, error)

func (f workerFunc) Work(ctx context.Context, j engine.Job) (engine.Result, error) { return f(ctx, j) }

// harness is an API over TLS with a real engine, and everybody who may use it.
type harness struct {
	*httptest.Server
	engine  *engine.Engine
	gate    *auth.Gate
	tokens  map[string]string // by role
	router  routers.Router
	folder  string
	secrets *seal.Secrets
	socket  *httptest.Server // plain, where everybody is root at the Unix socket
	stopped atomic.Int64     // the time that the gate takes for now, Unix nanoseconds; 0: the clock
	log     *lines           // what was logged, at level Debug
}

// lines are what was written, by whomever.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newHarness(t testing.TB, w workerFunc, change ...func(*Config)) *harness {
	t.Helper()
	h := &harness{tokens: map[string]string{}, folder: t.TempDir(), log: &lines{}}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, name := range []string{"vmware/web01", "kvm", "state"} {
		if err := os.MkdirAll(filepath.Join(h.folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	e, err := engine.Open(t.Context(), engine.Config{State: filepath.Join(h.folder, "state"), Name: "a1", Version: "test", Storages: []string{"vmware", "kvm"}, Capacity: 8, Lease: 5 * time.Second, Worker: w, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	h.engine, h.gate = e, auth.New(e.States(), e, h.now)
	sealer, err := seal.Load(filepath.Join(h.folder, "state", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	h.secrets = seal.NewSecrets(e.States(), sealer)
	c := Config{Engine: e, Gate: h.gate, Secrets: h.secrets, Version: "test", Log: log,
		Storages: storage.List{{Name: "vmware", Path: filepath.Join(h.folder, "vmware"), Use: model.StorageUseSource}, {Name: "kvm", Path: filepath.Join(h.folder, "kvm"), Use: model.StorageUseTarget}},
		Host: func(context.Context) (model.Host, error) {
			var host model.Host
			err := json.Unmarshal([]byte(`{"version":"test","accelerator":"tcg","reason":"asked for by a test","engines":[],"missing":[]}`), &host)
			return host, err
		}}
	if c.Uploads, err = upload.New(filepath.Join(h.folder, "state", "uploads"), c.Storages.Locate, h.now); err != nil {
		t.Fatal(err)
	}
	if c.Libraries.Shelf, err = library.Open(filepath.Join(h.folder, "state", "libraries"), h.now); err != nil {
		t.Fatal(err)
	}
	if c.Libraries.Uploads, err = upload.New(filepath.Join(h.folder, "state", "uploads", "libraries"), c.Libraries.Shelf.Where, h.now); err != nil {
		t.Fatal(err)
	}
	c.Backup = &backup.Source{Engine: e, State: filepath.Join(h.folder, "state"), About: backup.About{Version: "test", Appliance: "a1", ID: e.ID()}, Now: h.now}
	c.Bundle = &bundle.Source{Engine: e, Storages: c.Storages, Host: c.Host, Recent: func() []byte { return nil }, Appliance: "a1", Now: h.now,
		Versions: func(context.Context) map[string]string { return map[string]string{"hyper2kvm": "test"} }}
	for _, f := range change {
		f(&c)
	}
	handler, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	h.Server = httptest.NewUnstartedServer(handler)
	h.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	h.StartTLS()
	t.Cleanup(h.Server.Close)
	h.socket = httptest.NewUnstartedServer(handler)
	h.socket.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, PeerKey{}, auth.Local("uid-0", auth.Admin))
	}
	h.socket.Start()
	t.Cleanup(h.socket.Close)
	h.people(t)
	h.describe(t)
	return h
}

func (h *harness) now() time.Time {
	if at := h.stopped.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Now()
}

// people are one of each role, with a token.
func (h *harness) people(t testing.TB) {
	t.Helper()
	for _, role := range []auth.Role{auth.Viewer, auth.Operator, auth.Admin} {
		token, _, err := h.gate.CreateToken(t.Context(), auth.Local(role.String(), auth.Admin), auth.NewToken{Name: role.String(), Role: role})
		if err != nil {
			t.Fatal(err)
		}
		h.tokens[role.String()] = string(token)
	}
}

func (h *harness) describe(t testing.TB) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(Description)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.router, err = gorillamux.NewRouter(doc); err != nil {
		t.Fatal(err)
	}
}

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
	doc, err := openapi3.NewLoader().LoadFromData(Description)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			role, _ := op.Extensions["x-role"].(string)
			if said := strings.Contains(op.Description, "role "+role) || strings.Contains(op.Description, role+" for all else") || role == "none"; !said {
				t.Errorf("%s %s needs %s, and its description says %q", method, path, role, op.Description)
			}
		}
	}
}

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

func TestFilesAreDownloadedInParts(t *testing.T) {
	h := newHarness(t, func(_ context.Context, j engine.Job) (engine.Result, error) {
		j.Tell(engine.Update{Folder: model.Place{Storage: "kvm", Path: "a"}})
		return engine.Result{Verdict: model.VerdictUntested}, nil
	})
	folder := filepath.Join(h.folder, "kvm", "a")
	if err := os.MkdirAll(filepath.Join(folder, "evidence"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a-disk0.qcow2": "0123456789", "evidence/serial.log": "login:"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	var op model.Operation
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx")).into(t, &op)
	h.until(t, op.Migration, model.StateDone)
	if err := h.engine.Keep(t.Context(), op.Migration, []engine.File{enginetest.File("a-report.md", "# ")}); err != nil {
		t.Fatal(err)
	}
	files := "/migrations/" + op.Migration + "/files"
	var list struct{ Items []model.File }
	if h.ask(t, "viewer", "GET", files, nil).into(t, &list); len(list.Items) != 3 || list.Items[1].Path != "a-report.md" || !list.Items[1].Kept || list.Items[0].Size != 10 {
		t.Errorf("the files are %+v", list.Items)
	}
	for _, c := range []struct {
		role, name, bytes string
		status            int
		want              string
	}{
		{"viewer", "evidence/serial.log", "", 200, "login:"},
		{"viewer", "a-report.md", "", 200, "# "},
		{"viewer", "a-disk0.qcow2", "", 403, ""},
		{"operator", "a-disk0.qcow2", "bytes=3-5", 206, "345"},
		{"operator", "a-disk0.qcow2", "bytes=20-", 416, ""},
		{"operator", "link", "", 404, ""},
		{"operator", "../../vmware/web01", "", 404, ""},
		{"operator", "none", "", 404, ""},
	} {
		var headers []string
		if c.bytes != "" {
			headers = []string{"Range", c.bytes}
		}
		if a := h.ask(t, c.role, "GET", files+"/"+c.name, nil, headers...); a.status != c.status || c.want != "" && string(a.body) != c.want {
			t.Errorf("%s as %s: %d %q", c.name, c.role, a.status, a.body)
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
