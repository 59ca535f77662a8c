package vmware

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	siteUser     = "migrator@vsphere.local"
	sitePassword = "p:ss w@rd"
)

// site is govmomi's simulator behind a TLS server of its own, in which tests see every
// call and can spoil the answer to it.
type site struct {
	*httptest.Server
	model *simulator.Model

	mu    sync.Mutex
	calls map[string]int
	// spoil may answer a call itself, before the simulator has seen it.
	spoil func(method string, w http.ResponseWriter) bool
	// cut may lose the answer after the simulator has carried the call out.
	cut func(method string) bool
}

func newSite(t testing.TB, model *simulator.Model) *site { return newSiteAt(t, model, "127.0.0.1:0") }

func newSiteAt(t testing.TB, model *simulator.Model, address string) *site {
	t.Helper()
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	model.Service.RegisterEndpoints = true
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(siteUser, sitePassword)}
	behind := model.Service.NewServer()
	s := &site{model: model, calls: map[string]int{}}
	s.Server = httptest.NewUnstartedServer(s)
	if address != "127.0.0.1:0" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s.Listener.Close()
		s.Listener = listener
	}
	s.StartTLS()
	t.Cleanup(func() { s.Close(); behind.Close(); model.Remove() })
	return s
}

var bodyStart = regexp.MustCompile(`<(?:\w+:)?Body[^>]*><(\w+)`)

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	method := ""
	if found := bodyStart.FindSubmatch(body); found != nil {
		method = string(found[1])
	}
	s.mu.Lock()
	s.calls[method]++
	spoil, cut := s.spoil, s.cut
	s.mu.Unlock()
	if spoil != nil && spoil(method, w) {
		return
	}
	if cut != nil && cut(method) {
		s.model.Service.ServeMux.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	s.model.Service.ServeMux.ServeHTTP(w, r)
}

func (s *site) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func (s *site) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *site) config() Config {
	return Config{Server: s.Listener.Addr().String(), User: siteUser, Password: sitePassword, Thumbprint: sha256Of(s.Certificate())}
}

// connect logs in, until the test ends.
func (s *site) connect(t testing.TB) *Session {
	t.Helper()
	session, err := Connect(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return session
}

// sessions are those that the server knows, without HTTP.
func (s *site) sessions(t testing.TB) (keys []string) {
	t.Helper()
	client, err := vim25.NewClient(t.Context(), s.model.Service)
	if err != nil {
		t.Fatal(err)
	}
	var manager mo.SessionManager
	if err := mo.RetrieveProperties(t.Context(), client, client.ServiceContent.PropertyCollector, *client.ServiceContent.SessionManager, &manager); err != nil {
		t.Fatal(err)
	}
	for _, session := range manager.SessionList {
		keys = append(keys, session.Key)
	}
	return keys
}

// endSessions is an administrator, or a restart of the server.
func (s *site) endSessions(t testing.TB) {
	t.Helper()
	client, err := vim25.NewClient(t.Context(), s.model.Service)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := methods.TerminateSession(t.Context(), client, &types.TerminateSession{This: *client.ServiceContent.SessionManager, SessionId: s.sessions(t)}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) ca(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// impatient makes what is tried again be tried quickly, until the test ends.
func impatient(t testing.TB) {
	pauses, lost := firstPause, untilLost
	firstPause, untilLost = time.Millisecond, time.Second
	t.Cleanup(func() { firstPause, untilLost = pauses, lost })
}

// tunnel is an HTTP proxy that knows CONNECT alone, and where hosts are.
type tunnel struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

// hosts are those that it was asked for since it was last asked itself.
func (p *tunnel) hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

func newTunnel(t testing.TB, status int) *tunnel {
	p := &tunnel{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		asked := r.Host
		if r.Header.Get("Proxy-Authorization") != "" {
			asked += " with credentials"
		}
		p.asked = append(p.asked, asked)
		p.mu.Unlock()
		if r.Method != http.MethodConnect || status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() { _, _ = io.Copy(to, from); to.Close() }()
		go func() { _, _ = io.Copy(from, to); from.Close() }()
	}))
	t.Cleanup(p.Close)
	return p
}

// wantError checks what an error is and what it says.
func wantError(t testing.TB, err, is error, says ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want %v", err, is)
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), sitePassword) {
		t.Errorf("error %q tells the password", err)
	}
}

// listen is a TLS server of the tests' certificate that does something else than the API.
func listen(t testing.TB, config *tls.Config, handler http.HandlerFunc) (address string, certificate *x509.Certificate) {
	server := httptest.NewUnstartedServer(handler)
	server.TLS = config
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), server.Certificate()
}
