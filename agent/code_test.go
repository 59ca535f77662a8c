package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// served runs an agent in a folder that answers on agent.sock, until the test ends.
func served(t *testing.T) (socket string) {
	t.Helper()
	folder := t.TempDir()
	settled(t, folder)
	return servedIn(t, folder)
}

// settled puts settings and storages into a folder.
func settled(t *testing.T, folder string) (settings string) {
	t.Helper()
	socket := filepath.Join(folder, "agent.sock")
	settings = filepath.Join(folder, "agent.yaml")
	text := fmt.Sprintf("state: %[1]s/state\nlisten: [{unix: %[2]s}]\nstorages: [{name: s, path: %[1]s/s, use: source}, {name: t, path: %[1]s/t, use: target}]\n", folder, socket)
	for _, name := range []string{"s", "t"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return settings
}

// servedIn runs an agent with the settings in a folder.
func servedIn(t *testing.T, folder string) (socket string) {
	t.Helper()
	socket = filepath.Join(folder, "agent.sock")
	settings := filepath.Join(folder, "agent.yaml")
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context())) // it ends in the cleanup
	ended := make(chan int, 1)
	var stdout, stderr bytes.Buffer
	go func() { ended <- run(ctx, []string{"serve", "--config", settings}, &stdout, &stderr) }()
	t.Cleanup(func() {
		cancel(errInterrupted)
		if status := <-ended; status != 0 {
			t.Errorf("the agent ended with %d: %s%s", status, &stdout, &stderr)
		}
	})
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			return socket
		}
		if time.Now().After(limit) {
			t.Fatalf("the agent does not answer: %s", &stderr)
		}
	}
}

// local reaches an agent by its socket.
func local(socket string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// code runs hyper2kvm code.
func code(t *testing.T, socket string) (status int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	status = run(t.Context(), []string{"code", "--socket", socket}, &out, &said)
	return status, out.String(), said.String()
}

func TestTheCodeMakesTheFirstAdmin(t *testing.T) {
	socket := served(t)
	status, made, said := code(t, socket)
	if status != 0 || !regexp.MustCompile(`^[0-9A-Z]{5}(-[0-9A-Z]{5}){3}\n$`).MatchString(made) || !strings.Contains(said, "POST /api/v1/setup") {
		t.Fatalf("it ends with %d, %q, %q", status, made, said)
	}
	body := fmt.Sprintf(`{"code":%q,"name":"marta","password":"seven quiet otters swim"}`, strings.TrimSpace(made))
	reply, err := local(socket).Post("http://agent/api/v1/setup", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("the code gets %d, %v", reply.StatusCode, err)
	}
	status, made, said = code(t, socket)
	if status != exitFailed || made != "" || !strings.HasPrefix(said, "hyper2kvm: somebody has or had access already, so there is no code; ask an admin") {
		t.Errorf("with an admin it ends with %d, %q, %q", status, made, said)
	}
}

func TestWithoutAnAgentThereIsNoCode(t *testing.T) {
	folder := t.TempDir()
	other, closed := filepath.Join(folder, "other.sock"), filepath.Join(folder, "closed.sock")
	says(t, other, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	says(t, closed, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}") // as the agent answers to other users
	left := filepath.Join(folder, "left.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	for socket, want := range map[string]string{
		filepath.Join(folder, "none.sock"): "no agent answers on .*none.sock .*no such file or directory.*: start it with hyper2kvm serve, or name its socket with --socket",
		left:                               "no agent answers on .*left.sock .*connection refused.*: start it",
		closed:                             "the agent gives its code to root and to its own user alone",
		other:                              "other.sock is not the socket of an agent",
	} {
		if status, out, said := code(t, socket); status != exitFailed || out != "" || !regexp.MustCompile("^hyper2kvm: .*"+want).MatchString(said) || strings.Count(said, "\n") != 1 {
			t.Errorf("it ends with %d, %q, %q, want %s", status, out, said, want)
		}
	}
}

// says has a socket that says one thing to everybody.
func says(t *testing.T, socket, text string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			_, err := http.ReadRequest(bufio.NewReader(conn))
			if _, werr := io.WriteString(conn, text); errors.Join(err, werr, conn.Close()) != nil {
				return
			}
		}
	}()
}
