package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"hyper2kvm/agent/api/model"
)

// bare is an echo server with the middleware that this API has, but for what makes it
// this API: who asks, and whether the request is as described. It answers with body, and
// has streams of events that tell told as it comes.
func bare(tb testing.TB, body []byte, told func(context.Context) <-chan string) *httptest.Server {
	s := &server{Config: Config{Log: slog.New(slog.DiscardHandler)}}
	e := echo.New()
	e.Use(middleware.RequestID(), s.logged, middleware.Recover(), headers, sameOrigin)
	g := e.Group(base, middleware.BodyLimit(fmt.Sprint(maxBody)))
	g.GET("/migrations/:id", func(c echo.Context) error { return c.Blob(http.StatusOK, "application/json", body) })
	g.GET("/events", func(c echo.Context) error {
		c.Response().Header().Set(echo.HeaderContentType, "text/event-stream")
		w := &stream{w: c.Response(), control: http.NewResponseController(c.Response())}
		if err := w.send(": follows\n\n"); err != nil {
			return nil
		}
		for text := range told(c.Request().Context()) {
			if w.send("data: "+text+"\n\n") != nil {
				return nil
			}
		}
		return nil
	})
	b := httptest.NewUnstartedServer(e)
	b.EnableHTTP2 = true
	b.StartTLS()
	tb.Cleanup(b.Close)
	return b
}

// BenchmarkRequests asks this API and a bare server for the same, in turn, with eight
// clients. Least is what the API must reach of the bare server's throughput.
func BenchmarkRequests(b *testing.B) {
	const least = 0.15
	h := newHarness(b, done)
	id := h.begun(b)
	body := h.ask(b, "viewer", "GET", "/migrations/"+id, nil).body
	plain := bare(b, body, nil)
	const requests = 4000
	var ours, theirs time.Duration
	for b.Loop() {
		ours += hammered(b, h.Client(), h.URL+base+"/migrations/"+id, h.tokens["viewer"], requests)
		theirs += hammered(b, plain.Client(), plain.URL+base+"/migrations/"+id, "", requests)
	}
	per := float64(requests * b.N)
	share := theirs.Seconds() / ours.Seconds()
	b.ReportMetric(per/ours.Seconds(), "requests/s")
	b.ReportMetric(per/theirs.Seconds(), "bare-requests/s")
	b.ReportMetric(share, "of-bare")
	if share < least {
		b.Errorf("the API answers %.2f of the requests that a bare server does in the same time, want %.2f", share, least)
	}
}

func (h *harness) begun(tb testing.TB) string {
	tb.Helper()
	var op model.Operation
	h.ask(tb, "operator", "POST", "/migrations", request("web01/web01.vmx")).into(tb, &op)
	h.until(tb, op.Migration, model.StateDone)
	return op.Migration
}

// hammered is how long it takes to get an address many times, by eight clients.
func hammered(tb testing.TB, client *http.Client, url, token string, times int64) time.Duration {
	const clients = 8
	var left atomic.Int64
	left.Store(times)
	began := time.Now()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := get(tb.Context(), client, url, token); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

func get(ctx context.Context, client *http.Client, url, token string) error {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	reply, err := client.Do(r)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if _, err := io.Copy(io.Discard, reply.Body); err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", reply.Status)
	}
	return nil
}

// listeners is how many follow the events.
const listeners = 500

// BenchmarkEvents has an event reach 500 clients, of this API and of a bare server that
// hands it to each. Most is how many times as long it may take.
func BenchmarkEvents(b *testing.B) {
	const most = 5.0
	h := newHarness(b, done)
	hub := &hub{}
	plain := bare(b, nil, hub.follow)
	ours := h.listen(b, h.Client(), h.URL, h.tokens["viewer"])
	theirs := h.listen(b, plain.Client(), plain.URL, "")
	var us, them time.Duration
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("e%d", i)
		began := time.Now()
		h.ask(b, "operator", "POST", "/migrations", map[string]any{"id": id, "spec": request("a.vmx")["spec"]})
		ours.await(b, `"migration":"`+id+`"`)
		us += time.Since(began)
		began = time.Now()
		hub.tell(`{"migration":"` + id + `"}`)
		theirs.await(b, `"migration":"`+id+`"`)
		them += time.Since(began)
	}
	b.ReportMetric(us.Seconds()*1000/float64(b.N), "ms/event-to-500")
	b.ReportMetric(them.Seconds()*1000/float64(b.N), "bare-ms/event-to-500")
	times := us.Seconds() / them.Seconds()
	b.ReportMetric(times, "times-bare")
	if times > most {
		b.Errorf("an event takes %.1f times as long to reach all as from a bare server, want %.1f at most", times, most)
	}
}

// hub hands texts to all who follow.
type hub struct {
	mu  sync.Mutex
	all []chan string
}

func (h *hub) follow(ctx context.Context) <-chan string {
	c := make(chan string, 16)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, c)
	context.AfterFunc(ctx, func() { close(c) })
	return c
}

func (h *hub) tell(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.all {
		c <- text
	}
}

// crowd follows events with many connections of their own.
type crowd struct{ lines []chan string }

func (h *harness) listen(tb testing.TB, client *http.Client, url, token string) *crowd {
	tb.Helper()
	c := &crowd{}
	ready := make(chan error, listeners)
	for range listeners {
		lines := make(chan string, 1024)
		c.lines = append(c.lines, lines)
		go func() { ready <- stream1(tb.Context(), client, url+base+"/events", token, lines) }()
	}
	for range listeners {
		if err := <-ready; err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

// stream1 follows one stream, over a connection of its own, and returns when it is open.
func stream1(ctx context.Context, client *http.Client, url, token string, lines chan<- string) error {
	own := client.Transport.(*http.Transport).Clone()
	own.ForceAttemptHTTP2, own.TLSClientConfig.NextProtos = false, []string{"http/1.1"}
	own.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	reply, err := own.RoundTrip(r)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(reply.Body)
	if !in.Scan() || in.Text() != ": follows" {
		return fmt.Errorf("the stream begins with %q", in.Text())
	}
	go func() {
		defer reply.Body.Close()
		for in.Scan() {
			if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				lines <- data
			}
		}
	}()
	return nil
}

// await waits until all have been told of something.
func (c *crowd) await(tb testing.TB, text string) {
	tb.Helper()
	limit := time.After(time.Minute)
	for i, lines := range c.lines {
		for told := false; !told; {
			select {
			case line := <-lines:
				told = strings.Contains(line, text)
			case <-limit:
				tb.Fatalf("client %d was not told of %s", i, text)
			}
		}
	}
}
