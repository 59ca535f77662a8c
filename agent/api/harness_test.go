package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/backup"
	"hyper2kvm/agent/bundle"
	"hyper2kvm/agent/downloads"
	"hyper2kvm/agent/engine"
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
	e, err := engine.Open(t.Context(), engine.Config{State: filepath.Join(h.folder, "state"), Name: "a1", Version: "test", Storages: []string{"vmware", "kvm"}, Servers: []string{"vc1"}, Capacity: 8, Lease: 5 * time.Second, Worker: w, Log: log})
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
	c := Config{Engine: e, Gate: h.gate, VSphere: playedServers{}, Disks: playedDisks{}, Updates: playedUpdates{}, Secrets: h.secrets, Version: "test", Log: log,
		Storages: storage.List{{Name: "vmware", Path: filepath.Join(h.folder, "vmware"), Use: model.StorageUseSource}, {Name: "kvm", Path: filepath.Join(h.folder, "kvm"), Use: model.StorageUseTarget}},
		Host: func(context.Context) (model.Host, error) {
			var host model.Host
			err := json.Unmarshal([]byte(`{"version":"test","accelerator":"tcg","reason":"asked for by a test","engines":[],"missing":[]}`), &host)
			return host, err
		}}
	if c.Uploads, err = upload.New(filepath.Join(h.folder, "state", "uploads"), c.Storages.Now().Locate, h.now); err != nil {
		t.Fatal(err)
	}
	if c.Downloads, err = downloads.Open(downloads.Config{Folder: filepath.Join(h.folder, "state", "downloads"), Sealer: sealer, Storages: c.Storages, Machine: downloads.Machine{Proc: "/proc"}, Version: "test", Now: h.now, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Downloads.Close(); err != nil {
			t.Error(err)
		}
	})
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
	if h.router, err = routes(); err != nil {
		t.Fatal(err)
	}
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

// routes finds what the description says of a request.
var routes = sync.OnceValues(func() (routers.Router, error) {
	doc, err := description()
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	return gorillamux.NewRouter(doc)
})
