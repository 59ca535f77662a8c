package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// options are an operator's, who trusts the harness's certificate alone.
func (h *harness) options(t *testing.T) client.Options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(h.tokens["operator"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(h.Certificate().Raw)
	return client.Options{TokenFile: path, Fingerprint: hex.EncodeToString(sum[:])}
}

func (h *harness) client(t *testing.T) *client.Conn {
	t.Helper()
	c, err := client.New(h.URL, h.options(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// through has every request pass a handler before the API's.
func (h *harness) through(pass func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	next := h.Config.Handler
	h.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pass(w, r, next) })
}

func asked(path string) model.MigrationRequest {
	return model.MigrationRequest{Spec: model.Spec{Source: model.Source{Storage: "vmware", Path: path}, Target: model.Target{Storage: "kvm"}}}
}

func TestAClientTrustsOneCertificateAlone(t *testing.T) {
	h := newHarness(t, done)
	if _, err := h.client(t).Storages(t.Context()); err != nil {
		t.Errorf("by its fingerprint: %v", err)
	}
	o := h.options(t)
	right := o.Fingerprint
	var reached bool
	h.through(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		reached = true
		next.ServeHTTP(w, r)
	})
	for what, fingerprint := range map[string]string{"another fingerprint": strings.Repeat("ab:", 31) + "ab", "none": ""} {
		o.Fingerprint = fingerprint
		c, err := client.New(h.URL, o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Storages(t.Context())
		said := strings.ToLower(strings.ReplaceAll(errText(err), ":", ""))
		if !errors.Is(err, client.ErrTrust) || !strings.Contains(said, right) {
			t.Errorf("by %s: %v", what, err)
		}
	}
	if reached {
		t.Error("a request was sent to an appliance that is not trusted")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(h.URL, client.Options{TokenFile: o.TokenFile, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Storages(t.Context()); err != nil {
		t.Errorf("by its CA: %v", err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAClientsOptionsAreChecked(t *testing.T) {
	folder := t.TempDir()
	open, empty := filepath.Join(folder, "open"), filepath.Join(folder, "empty")
	for path, mode := range map[string]os.FileMode{open: 0o644, empty: 0o600} {
		if err := os.WriteFile(path, []byte(strings.Repeat("\n", 3)), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		address, want string
		o             client.Options
	}{
		{"http://a:8443", "is no address", client.Options{}},
		{"https://", "is no address", client.Options{}},
		{"https://user:word@a", "is no address", client.Options{}},
		{"https://a/other", "is no address", client.Options{}},
		{"unix:", "is no address", client.Options{}},
		{"vsock:3", "is no address", client.Options{}},
		{"https://a", "is no fingerprint", client.Options{Fingerprint: "AB:CD"}},
		{"https://a", "give one", client.Options{Fingerprint: strings.Repeat("ab", 32), CA: "x"}},
		{"https://a", "no such file", client.Options{CA: filepath.Join(folder, "none")}},
		{"https://a", "no certificate in PEM", client.Options{CA: empty}},
		{"https://a", "run chmod 600", client.Options{TokenFile: open}},
		{"https://a", "does not hold one token", client.Options{TokenFile: empty}},
		{"https://a", "no such file", client.Options{TokenFile: "credential:token"}},
	} {
		if _, err := client.New(c.address, c.o); !errors.Is(err, client.ErrOptions) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%q, %+v) = %v, want %s", c.address, c.o, err, c.want)
		}
	}
}

func TestAClientAsksOverASocket(t *testing.T) {
	h := newHarness(t, done)
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h.Config.Handler}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	c, err := client.New("unix:"+path, client.Options{TokenFile: h.options(t).TokenFile})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.Appliances(t.Context()); err != nil || len(all) != 1 || all[0].Name != "a1" {
		t.Errorf("Appliances = %+v, %v", all, err)
	}
}

func TestAClientTellsWhatIsRefused(t *testing.T) {
	h := newHarness(t, done)
	_, err := h.client(t).Migration(t.Context(), "none")
	r, ok := errors.AsType[*client.Refusal](err)
	if !ok || r.Code != "no-such-migration" || r.Status != 404 || !strings.HasSuffix(err.Error(), "; list the migrations") {
		t.Errorf("Migration = %v", err)
	}
	if err := h.client(t).Forget(t.Context(), "none"); errText(err) != r.Error() {
		t.Errorf("Forget = %v", err)
	}
	h.through(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Error(w, "<html>", http.StatusNotFound)
	})
	if _, err := h.client(t).Storages(t.Context()); !strings.Contains(errText(err), "answers 404 Not Found, which no appliance does") {
		t.Errorf("from something else: %v", err)
	}
}

// TestARequestThatIsSentAgainIsDoneOnce loses answers after the work was taken up.
func TestARequestThatIsSentAgainIsDoneOnce(t *testing.T) {
	h := newHarness(t, done)
	c := h.client(t)
	if _, err := c.Storages(t.Context()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	lost := map[string]int{}
	h.through(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		lost[r.Method]++
		n := lost[r.Method]
		mu.Unlock()
		next.ServeHTTP(w, r)
		if n < 3 {
			panic(http.ErrAbortHandler)
		}
	})
	op, err := c.Begin(t.Context(), asked("a.vmx"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Migration(t.Context(), op.Migration)
	if all := h.engine.List(func(*model.Migration) bool { return true }, "", 10); err != nil || m.Name != "a" || len(all.Items) != 1 || lost["POST"] != 3 {
		t.Errorf("after %d requests there are %d migrations, %v", lost["POST"], len(all.Items), err)
	}
	lost["DELETE"] = 0
	if err := c.Forget(t.Context(), op.Migration); err == nil || lost["DELETE"] != 1 {
		t.Errorf("what may not be sent again was sent %d times, %v", lost["DELETE"], err)
	}
}

// TestAStreamThatIsLostMissesNothing cuts every stream off after two events.
func TestAStreamThatIsLostMissesNothing(t *testing.T) {
	h := newHarness(t, func(_ context.Context, j engine.Job) (engine.Result, error) {
		for i := range 6 {
			j.Tell(engine.Update{Text: "step " + string(rune('1'+i))})
		}
		return engine.Result{Verdict: model.VerdictProved}, nil
	})
	h.through(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			w = &cut{ResponseWriter: w, left: 2}
		}
		next.ServeHTTP(w, r)
	})
	c := h.client(t)
	op, err := c.Begin(t.Context(), asked("a.vmx"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var steps []string
	for e, err := range c.Events(ctx, op.Migration, 0) {
		if err != nil {
			t.Fatalf("after %q: %v", steps, err)
		}
		if strings.HasPrefix(e.Text, "step") {
			steps = append(steps, e.Text[5:])
		}
		if e.State == model.StateDone {
			break
		}
	}
	if got := strings.Join(steps, ""); got != "123456" {
		t.Errorf("the steps told are %s", got)
	}
}

func TestEventsAreFollowedFromNowOn(t *testing.T) {
	h := newHarness(t, done)
	c := h.client(t)
	op, err := c.Begin(t.Context(), asked("a.vmx"))
	if err != nil {
		t.Fatal(err)
	}
	h.until(t, op.Migration, model.StateDone)
	h.follow(t, `"state":"done"`, "Last-Event-ID", "0") // its events are told a moment later
	following := make(chan struct{})
	h.through(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/events") && r.URL.RawQuery == "" {
			time.AfterFunc(200*time.Millisecond, func() { close(following) })
		}
		next.ServeHTTP(w, r)
	})
	begun := make(chan error)
	go func() {
		<-following
		_, err := c.Begin(t.Context(), asked("b.vmx"))
		begun <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for e, err := range c.Events(ctx, "", client.Now) {
		if err != nil || e.Name != "b" {
			t.Errorf("the first event from now on is %+v, %v", e, err)
		}
		break
	}
	if err := <-begun; err != nil {
		t.Error(err)
	}
}

// cut is an answer that is lost after some events.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cut) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), "id: ") {
		if c.left--; c.left < 0 {
			panic(http.ErrAbortHandler)
		}
	}
	return c.ResponseWriter.Write(b)
}

func TestAnOperationIsAwaitedWithAndWithoutEvents(t *testing.T) {
	for _, without := range []bool{false, true} {
		h := newHarness(t, func(_ context.Context, j engine.Job) (engine.Result, error) {
			time.Sleep(300 * time.Millisecond)
			return engine.Result{}, &engine.Failure{Problem: model.Problem{Code: "blocked", Detail: "a concern forbids it"}}
		})
		if without {
			h.through(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.HasSuffix(r.URL.Path, "/events") {
					r.Header.Set("Authorization", "Bearer h2k_wrong")
				}
				next.ServeHTTP(w, r)
			})
		}
		c := h.client(t)
		op, err := c.Begin(t.Context(), asked("a.vmx"))
		if err != nil {
			t.Fatal(err)
		}
		var last model.Event
		began := time.Now()
		op, err = c.Await(t.Context(), op, func(e model.Event) { last = e })
		if err != nil || !op.Done || op.Problem.Code != "blocked" || (last.State == model.StateFailed) == without || time.Since(began) > 10*time.Second {
			t.Errorf("without events: %v: Await = %+v, %v, the last event %+v, after %v", without, op, err, last, time.Since(began))
		}
	}
}

func TestADownloadGoesOnFromAByte(t *testing.T) {
	h := newHarness(t, func(_ context.Context, j engine.Job) (engine.Result, error) {
		j.Tell(engine.Update{Folder: model.Place{Storage: "kvm", Path: "a"}})
		return engine.Result{Verdict: model.VerdictUntested}, nil
	})
	if err := os.MkdirAll(filepath.Join(h.folder, "kvm", "a", "evidence"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.folder, "kvm", "a", "evidence", "50% of it.log"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := h.client(t)
	op, err := c.Begin(t.Context(), asked("a.vmx"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Await(t.Context(), op, nil); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[int64]string{0: "0123456789", 7: "789"} {
		r, err := c.Download(t.Context(), op.Migration, "evidence/50% of it.log", from)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(text) != want {
			t.Errorf("from byte %d it is %q, %v", from, text, err)
		}
	}
	if _, err := c.Download(t.Context(), op.Migration, "none", 0); err == nil {
		t.Error("a file that is not there is downloaded")
	}
}

func TestAppliancesAreKnownByName(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", folder)
	if _, _, err := client.Named("lab", client.Options{}); !errors.Is(err, client.ErrOptions) || !strings.Contains(err.Error(), "which is not there") {
		t.Errorf("without a file: %v", err)
	}
	file := filepath.Join(folder, client.NamedFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "lab: {address: 'https://kvm1:8443', fingerprint: AB, tokenFile: lab.token}\nbad: {url: x}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	address, o, err := client.Named("lab", client.Options{CA: "ca.pem"})
	if want := (client.Options{CA: "ca.pem", TokenFile: filepath.Join(filepath.Dir(file), "lab.token")}); err != nil || address != "https://kvm1:8443" || o != want {
		t.Errorf("Named = %q, %+v, %v", address, o, err)
	}
	if address, _, err := client.Named("unix:/x", client.Options{}); err != nil || address != "unix:/x" {
		t.Errorf("an address: %q, %v", address, err)
	}
	for name, want := range map[string]string{"none": "it has bad, lab", "bad": "write address, fingerprint"} {
		if _, _, err := client.Named(name, client.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Named(%s) = %v", name, err)
		}
	}
}
