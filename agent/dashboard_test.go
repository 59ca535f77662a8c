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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// pty is a terminal that a test sits at.
type pty struct {
	master, slave *os.File
	screen        vt10x.Terminal
}

// openPTY makes a terminal of a size, as unlockpt(3) and ptsname(3) do.
func openPTY(t *testing.T, columns, rows int) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	p := &pty{master: master, slave: slave, screen: vt10x.New(vt10x.WithSize(max(columns, 80), max(rows, 24)))}
	go p.read()
	t.Cleanup(func() {
		if err := errors.Join(slave.Close(), master.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *pty) read() {
	b := make([]byte, 1<<12)
	for {
		n, err := p.master.Read(b)
		if err != nil {
			return // the program has ended, and nobody else has it open
		}
		_, _ = p.screen.Write(b[:n]) // which never fails
	}
}

func (p *pty) text() string { return p.screen.String() }

func (p *pty) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// shows waits until the screen matches a pattern.
func (p *pty) shows(t *testing.T, pattern string) string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	for limit := time.Now().Add(30 * time.Second); !want.MatchString(p.text()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the screen does not match %s:\n%s", pattern, p.text())
		}
	}
	return p.text()
}

// hides waits until the screen has a text no more.
func (p *pty) hides(t *testing.T, text string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); strings.Contains(p.text(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the screen has %q still:\n%s", text, p.text())
		}
	}
}

// screened runs hyper2kvm dashboard on a terminal until the test ends.
func screened(t *testing.T, p *pty, terminal, settings, socket string) (ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	result := make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, err := proc.Command{Name: "hyper2kvm", Args: []string{"dashboard", "--socket", socket, "--config", settings}, Env: []string{"TERM=" + terminal}, On: p.slave}.Run(ctx)
		result <- err
	}()
	t.Cleanup(func() { cancel(); <-gone })
	return result
}

// withHTTPS puts settings into a folder by which browsers reach the agent too.
func withHTTPS(t *testing.T, folder string) (settings, address string) {
	t.Helper()
	settings = settled(t, folder)
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
	return settings, address
}

const codeShape = `[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}`

// On Linux's own console the screen tells of an agent that is not there yet, that comes,
// is set up, goes, and comes back.
func TestTheScreenFollowsTheAgent(t *testing.T) {
	folder := t.TempDir()
	settings, address := withHTTPS(t, folder)
	socket := filepath.Join(folder, "agent.sock")
	p := openPTY(t, 80, 25)
	ended := screened(t, p, "linux", settings, socket)
	p.shows(t, `(?s)mover1 +hyper2kvm .*Agent: does not answer since .*no such file or`)
	t.Run("comes", func(t *testing.T) {
		servedIn(t, folder)
		text := p.shows(t, `(?s)One-time code.*`+codeShape+`.*Agent: ready`)
		shown := strings.Join(regexp.MustCompile(`(?m)^  ((?:[0-9A-F]{2}:?){16}) *$`).FindAllString(text, -1), "")
		if want := presented(t, address); strings.Join(strings.Fields(shown), "") != want {
			t.Errorf("it shows the fingerprint %q, and browsers are shown %s:\n%s", shown, want, text)
		}
		becomesAdmin(t, socket, regexp.MustCompile(codeShape).FindString(text))
		p.hides(t, "One-time code")
		p.press(t, "c")
		p.shows(t, "Somebody has or had access already")
	})
	p.shows(t, `Agent: does not answer since`)
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
