package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/pipeline/proc"
)

// screened runs hyper2kvm dashboard on a terminal until the test ends, with a folder of
// programs that stand in for others, if there is one, and more arguments.
func screened(t *testing.T, p *pty, terminal, folder, standIns string, args ...string) (ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	result, gone := make(chan error, 1), make(chan struct{})
	c := proc.Command{Name: "hyper2kvm", On: p.slave, Env: []string{"TERM=" + terminal, "PATH=" + standIns + ":" + os.Getenv("PATH")},
		Args: append([]string{"dashboard", "--socket", filepath.Join(folder, "agent.sock"), "--config", filepath.Join(folder, "agent.yaml"), "--root", folder}, args...)}
	go func() {
		defer close(gone)
		_, err := c.Run(ctx)
		result <- err
	}()
	t.Cleanup(func() { cancel(); <-gone })
	return result
}

// withHTTPS puts settings into a folder by which browsers reach the agent too.
func withHTTPS(t *testing.T, folder string) (address string) {
	t.Helper()
	settings := settled(t, folder)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	text, failed := os.ReadFile(settings)
	if err := errors.Join(failed, l.Close()); err != nil {
		t.Fatal(err)
	}
	port := address[strings.LastIndexByte(address, ':'):]
	text = bytes.Replace(text, []byte("listen: ["), fmt.Appendf(nil, "appliance: {name: mover1}\nlisten: [{https: '%s'}, ", port), 1)
	if err := os.WriteFile(settings, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return address
}

const codeShape = `[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}`

// On Linux's own console the screen tells of an agent that is not there yet, that comes,
// is set up, goes, and comes back.
func TestTheScreenFollowsTheAgent(t *testing.T) {
	folder := t.TempDir()
	address := withHTTPS(t, folder)
	p := openPTY(t, 80, 25)
	ended := screened(t, p, "linux", folder, "")
	p.shows(t, `(?s)mover1 +hyper2kvm .*Agent: does not answer since .*no such file or`)
	t.Run("comes", func(t *testing.T) {
		servedIn(t, folder)
		text := p.shows(t, `(?s)One-time code.*`+codeShape+`.*Agent: ready`)
		shown := strings.Join(regexp.MustCompile(`(?m)^  ((?:[0-9A-F]{2}:?){16}) *$`).FindAllString(text, -1), "")
		if want := presented(t, address); strings.Join(strings.Fields(shown), "") != want {
			t.Errorf("it shows the fingerprint %q, and browsers are shown %s:\n%s", shown, want, text)
		}
		becomesAdmin(t, filepath.Join(folder, "agent.sock"), regexp.MustCompile(codeShape).FindString(text))
		p.hides(t, "One-time code")
		p.press(t, "c")
		p.shows(t, "Somebody has or had access already")
	})
	p.shows(t, `Agent: does not answer since`)
	if err := os.WriteFile(filepath.Join(folder, "agent.sock.ended"), []byte("the state is full\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.shows(t, `It has ended: the state is full\. It is started`)
	t.Run("comes back", func(t *testing.T) {
		servedIn(t, folder)
		p.shows(t, `Agent: ready`)
	})
	p.press(t, "\x03")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// presented is the SHA-256 of the certificate at an address.
func presented(t *testing.T, address string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].Raw)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// becomesAdmin uses a code.
func becomesAdmin(t *testing.T, socket, code string) {
	t.Helper()
	body := fmt.Sprintf(`{"code":%q,"name":"marta","password":"seven quiet otters swim"}`, code)
	reply, err := local(socket).Post("http://agent/api/v1/setup", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("the code %s gets %d, %v", code, reply.StatusCode, err)
	}
}

func TestTheScreenEndsWithItsTerminal(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	p := openPTY(t, 80, 25)
	ended := screened(t, p, "linux", folder, "")
	p.shows(t, "Agent: does not answer")
	if err := p.master.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if _, failed := errors.AsType[*proc.Error](err); !failed {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

// A code that was made elsewhere makes the one that is shown worthless.
func TestTheScreenTellsOfAnotherCode(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	socket := servedIn(t, folder)
	p := openPTY(t, 80, 25)
	screened(t, p, "vt220", folder, "")
	first := regexp.MustCompile(codeShape).FindString(p.shows(t, codeShape))
	_, other, _ := code(t, socket)
	if text := p.shows(t, "A one-time code for the first admin was made elsewhere"); strings.Contains(text, first) || strings.Contains(text, strings.TrimSpace(other)) {
		t.Errorf("it shows a code:\n%s", text)
	}
	p.press(t, "c")
	becomesAdmin(t, socket, regexp.MustCompile(codeShape).FindString(p.shows(t, codeShape)))
	p.hides(t, "One-time code")
}

// A second screen leaves the first one's code alone.
func TestASecondScreenMakesNoCode(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	servedIn(t, folder)
	p, second := openPTY(t, 80, 25), openPTY(t, 80, 25)
	screened(t, p, "linux", folder, "")
	first := regexp.MustCompile(codeShape).FindString(p.shows(t, codeShape))
	screened(t, second, "linux", folder, "")
	second.shows(t, "was made elsewhere; F3 makes another")
	if !strings.Contains(p.text(), first) {
		t.Errorf("the first screen shows it no more:\n%s", p.text())
	}
}

func TestADumbTerminalGetsLines(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	p := openPTY(t, 80, 25)
	screened(t, p, "dumb", folder, "")
	p.wrote(t, "does not answer since")
	t.Run("comes", func(t *testing.T) {
		servedIn(t, folder)
		p.wrote(t, "Agent: ready")
		p.wrote(t, `(?s)One-time code.*`+codeShape)
	})
	p.wrote(t, `(?s)Agent: ready.*Agent: does not answer`)
	if strings.Contains(p.written(), "\x1b") {
		t.Errorf("it is commanded: %q", p.written())
	}
}

func TestALogGetsNoCode(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	servedIn(t, folder)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var log bytes.Buffer
	out := writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if log.Write(b); strings.Contains(log.String(), "Agent: ready") && strings.Contains(log.String(), "is hidden") {
			cancel()
		}
		return len(b), nil
	})
	c := proc.Command{Name: "hyper2kvm", Args: []string{"dashboard", "--socket", filepath.Join(folder, "agent.sock"), "--config", filepath.Join(folder, "agent.yaml")}, Env: []string{"TERM=linux"}, Stdout: out}
	if _, err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	if text := log.String(); regexp.MustCompile(codeShape).MatchString(text) || strings.Contains(text, "\x1b") {
		t.Errorf("it tells:\n%s", text)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
