package serve

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// address is where the agent answers with TLS.
func (a *appliance) address(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(a.out.String()) {
		if _, rest, ok := strings.Cut(line, "https://"); ok {
			address, _, _ := strings.Cut(rest, ",")
			return address
		}
	}
	t.Fatal("it answers nowhere with TLS")
	return ""
}

// crowd are connections that say something and receive nothing.
func crowd(t *testing.T, address string, n int, say string) (all []net.Conn) {
	t.Helper()
	for range n {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// heap is what is in use after what is not is gone.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestSlowClientsAreInNobodysWay: many that say nothing, that send byte by byte, and that
// do not receive what is sent to them take little, others are served meanwhile, and
// nothing is left of them.
func TestSlowClientsAreInNobodysWay(t *testing.T) {
	a := started(t, t.TempDir(), "")
	var token struct{ Text string }
	if _, text := a.send(t, "POST", "/tokens", `{"name":"slow","role":"admin"}`); json.Unmarshal(text, &token) != nil {
		t.Fatalf("%s", text)
	}
	for i := range 50 {
		a.post(t, "/migrations", fmt.Sprintf(`{"id":"m%d","spec":{"source":{"storage":"from","path":"none.vmx"},"target":{"storage":"to"}}}`, i))
	}
	const each = 40
	head := "Host: appliance\r\nAuthorization: Bearer " + token.Text + "\r\n"
	goroutines, memory, at := runtime.NumGoroutine(), heap(), a.address(t)
	idle := crowd(t, at, 4*each, "")
	dripping := crowd(t, at, each, "POST /api/v1/migrations HTTP/1.1\r\n"+head+"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{")
	streams := crowd(t, at, each, "GET /api/v1/events?from=0 HTTP/1.1\r\n"+head+"\r\n")
	deaf := crowd(t, at, each, strings.Repeat("GET /openapi.yaml HTTP/1.1\r\n"+head+"\r\n", 100)) // more than fits between
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	for i := range 20 {
		for _, c := range dripping {
			if _, err := io.WriteString(c, " "); err != nil {
				t.Fatalf("after %d bytes: %v", i, err)
			}
		}
		began := time.Now()
		reply, err := client.Get("https://" + at + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		if err := reply.Body.Close(); err != nil || reply.StatusCode != 200 || time.Since(began) > 5*time.Second {
			t.Errorf("others get %d after %v, %v", reply.StatusCode, time.Since(began), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	taken, all := heap()-memory, 7*each
	t.Logf("%d connections: %d goroutines, %d KiB each", all, runtime.NumGoroutine()-goroutines, taken>>10/int64(all))
	if n := runtime.NumGoroutine() - goroutines; n > 12*all {
		t.Errorf("%d connections have %d goroutines", all, n)
	}
	if taken > int64(all)*256<<10 {
		t.Errorf("%d connections take %d KiB", all, taken>>10)
	}
	for _, list := range [][]net.Conn{idle, dripping, streams, deaf} {
		for _, c := range list {
			_ = c.Close() // what is told of the end is told to nobody
		}
	}
	for limit := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > goroutines+20; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d goroutines are left, of %d before", runtime.NumGoroutine(), goroutines)
		}
	}
}

// TestWhoIsTooSlowIsCutOff at each step of a request.
func TestWhoIsTooSlowIsCutOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		_, _ = w.Write(make([]byte, 64<<20)) // until it is cut off
	})
	b := bounds{headers: 200 * time.Millisecond, answer: 400 * time.Millisecond, idle: 200 * time.Millisecond}
	defer answer([]way{{l, "here", ""}}, handler, b, slog.New(slog.DiscardHandler), func(err error) { t.Error(err) })()
	t.Run("all at once", func(t *testing.T) { tooSlow(t, l.Addr().String(), b) })
}

func tooSlow(t *testing.T, address string, b bounds) {
	for what, say := range map[string]string{
		"says nothing":      "",
		"stops in the head": "GET / HTTP/1.1\r\nHost: x\r\n",
		"stops in the body": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx",
		"receives nothing":  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, say); err != nil {
				t.Fatal(err)
			}
			if what == "receives nothing" {
				time.Sleep(4 * b.answer)
			}
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, c)
			if errors.Is(err, os.ErrDeadlineExceeded) || n >= 64<<20 {
				t.Errorf("it goes on: %d bytes, %v", n, err)
			}
		})
	}
}
