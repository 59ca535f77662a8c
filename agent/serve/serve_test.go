package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/disks"
	"hyper2kvm/agent/vcenter"
	"hyper2kvm/agent/worker"
)

func TestMain(m *testing.M) {
	if status, played := worker.Serve(vcenter.Guests{}); played {
		os.Exit(status)
	}
	if os.Args[0] == agentPart {
		if err := playAgent(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// appliance is an agent that runs in this process.
type appliance struct {
	folder  string
	out     *lines
	end     context.CancelFunc
	ended   chan error
	running *agent // in this process
	log     *lines // at level Debug
}

// lines is what an agent prints.
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

// freePort is an address that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// started runs an agent with settings besides the usual ones.
func started(t testing.TB, folder, more string) *appliance {
	t.Helper()
	return startedSaying(t, folder, more, nobodyYet)
}

// nobodyYet is what an agent says when it is there, and nobody has access.
const nobodyYet = "nobody has access yet"

// startedSaying is started for an agent that says something else when it is there.
func startedSaying(t testing.TB, folder, more, says string) *appliance {
	t.Helper()
	return startedOn(t, folder, more, says, disks.ThisMachine())
}

// startedOn is startedSaying on a machine with other disks.
func startedOn(t testing.TB, folder, more, says string, m disks.Machine) *appliance {
	t.Helper()
	for _, name := range []string{"from", "to"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	settings := fmt.Sprintf("state: %[1]s/state\nappliance: {name: a1}\ncapacity: 2\nlisten: [{https: '%[3]s'}, {unix: %[1]s/agent.sock}]\nstorages: [{name: from, path: %[1]s/from, use: source}, {name: to, path: %[1]s/to, use: target}]\n%[2]s", folder, more, freePort(t))
	file := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := &appliance{folder: folder, out: &lines{}, end: cancel, ended: make(chan error, 1), log: &lines{}}
	log := slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(a.log)
		}
	})
	a.running = newAgent(s, "test", log)
	a.running.machine = m
	go func() { a.ended <- a.running.run(ctx, a.out) }()
	t.Cleanup(func() { a.stop(t) })
	for limit := time.Now().Add(20 * time.Second); !strings.Contains(a.out.String(), says); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-a.ended:
			t.Fatalf("it ended with %v", err)
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("it says only %q", a.out)
		}
	}
	return a
}

func (a *appliance) stop(t testing.TB) {
	t.Helper()
	if a.ended == nil {
		return
	}
	a.end()
	select {
	case err := <-a.ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	a.ended = nil
}

// local is a client of the Unix socket.
func (a *appliance) local() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(a.folder, "agent.sock"))
	}}}
}

func (a *appliance) get(t testing.TB, path string, v any) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://appliance/api/v1"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := a.local().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if v != nil && reply.StatusCode == 200 {
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return reply.StatusCode
}

func TestTheAgentAnswersOnAllItsWays(t *testing.T) {
	a := started(t, t.TempDir(), "")
	if got := a.get(t, "/migrations", nil); got != 200 {
		t.Errorf("over the socket root gets %d", got)
	}
	address := a.address(t)
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].Raw)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if plain := strings.ToLower(strings.ReplaceAll(a.out.String(), ":", "")); !strings.Contains(plain, hex.EncodeToString(sum[:])) {
		t.Errorf("the certificate's fingerprint is not shown: %s", a.out)
	}
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	reply, err := insecure.Get("https://" + address + "/api/v1/migrations")
	if err != nil {
		t.Fatal(err)
	}
	if reply.StatusCode != 401 {
		t.Errorf("over HTTPS nobody gets %d", reply.StatusCode)
	}
	if err := reply.Body.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheCertificateStays(t *testing.T) {
	folder := t.TempDir()
	first, err := ownCertificate(folder, "a1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := ownCertificate(folder, "a1")
	if err != nil || fingerprint(first) != fingerprint(again) {
		t.Errorf("it is %s and then %s, %v", fingerprint(first), fingerprint(again), err)
	}
	if info, err := os.Stat(filepath.Join(folder, "own.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its key: %v, %v", info.Mode(), err)
	}
}

// TestSystemdIsTold: readiness, that all is well, and the end.
func TestSystemdIsTold(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "600000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	a := started(t, t.TempDir(), "")
	said := func() string {
		b := make([]byte, 100)
		if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got := said(); got != "READY=1" {
		t.Errorf("first it says %q", got)
	}
	if got := said(); got != "WATCHDOG=1" {
		t.Errorf("then it says %q", got)
	}
	a.stop(t)
	for got := ""; got != "STOPPING=1"; got = said() {
		if got != "" && got != "WATCHDOG=1" {
			t.Fatalf("at the end it says %q", got)
		}
	}
}
