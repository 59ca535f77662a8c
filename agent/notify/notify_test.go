package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/webhook"
)

// log is one that many write to.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is a notifier that waits little, until the test ends or stop is called.
func running(t *testing.T, s config.Notify, secret Secret) (n *Notifier, l *log, stop func()) {
	t.Helper()
	l = &log{}
	n = New(s, secret, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})))
	n.pause = func(int) time.Duration { return time.Millisecond }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return n, l, stop
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func TestWhoWantsToKnowIsToldUntilItIsTaken(t *testing.T) {
	var mu sync.Mutex
	heard := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		var m Message
		if err := json.Unmarshal(body, &m); err != nil || r.Header.Get(webhook.DeliveryHeader) != m.ID {
			t.Errorf("it got %q: %v", body, err)
		}
		key := fmt.Sprintf("%s %s signed %v", r.URL.Path, m.ID, r.Header.Get(webhook.SignatureHeader) != "")
		heard[key]++
		switch {
		case r.URL.Path == "/busy" && heard[key] < 4:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/never":
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Path == "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	p := newPost(t, func(p *post) { p.replies = map[string]string{"MAIL": "451 later"}; p.plain = true })
	both := []model.State{"done", "failed"}
	m := settings(p)
	m.Encryption, m.User, m.Events = "none", "", []model.State{"failed"}
	n, l, _ := running(t, config.Notify{Mail: &m, Webhooks: []config.Webhook{
		{Name: "busy", URL: server.URL + "/busy", Secret: "key", Events: both},
		{Name: "never", URL: server.URL + "/never", Events: both},
		{Name: "broken", URL: server.URL + "/broken", Events: []model.State{"done"}},
		{Name: "hidden", URLSecret: "address", Events: both},
	}}, func(name string) ([]byte, error) {
		return map[string][]byte{"key": []byte("hunter2"), "address": []byte(server.URL + "/hunter3\n")}[name], nil
	})
	n.Tell(Message{ID: "e1", State: "done"})
	n.Tell(Message{ID: "e2", State: "failed"})
	n.Tell(Message{ID: "e3", State: "running"})
	want := map[string]int{"/busy e1 signed true": 4, "/busy e2 signed true": 4, "/never e1 signed false": 1, "/never e2 signed false": 1,
		"/broken e1 signed false": tries, "/hunter3 e1 signed false": 1, "/hunter3 e2 signed false": 1}
	eventually(t, "all are told", func() bool {
		mails, _ := p.taken()
		mu.Lock()
		defer mu.Unlock()
		return len(mails) == 1 && fmt.Sprint(heard) == fmt.Sprint(want) && strings.Count(l.String(), "level=WARN") == 3
	})
	if said := l.String(); strings.Contains(said, "hunter") || !strings.Contains(said, `msg="somebody was not notified" receiver="webhook never"`) {
		t.Errorf("the log says\n%s", said)
	}
}

// A receiver that is down for long costs no migration any time, and no memory.
func TestTellingNeverWaits(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	defer server.Close()
	defer close(stop)
	n, l, end := running(t, config.Notify{Webhooks: []config.Webhook{{Name: "slow", URL: server.URL, Events: []model.State{"done"}}}}, nil)
	began := time.Now()
	for i := range 10 * queued {
		n.Tell(Message{ID: fmt.Sprint("e", i), State: "done"})
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	const lost = 9*queued - 1 // one is being told, or not yet
	if got := strings.Count(l.String(), "too many wait"); got < lost || got > lost+1 {
		t.Errorf("%d were given up, want about %d", got, lost)
	}
	end()
	if got := strings.Count(l.String(), "level=WARN"); got != 10*queued {
		t.Errorf("%d of %d that nobody was told are in the log", got, 10*queued)
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	var all time.Duration
	for try := 1; try < tries; try++ {
		if p := pause(try); p < time.Second || p > 5*time.Minute || try > 1 && p < pause(try-1) {
			t.Errorf("pause(%d) = %v", try, p)
		}
		all += pause(try)
	}
	if all < 100*time.Minute || all > 130*time.Minute {
		t.Errorf("it is tried for %v", all)
	}
}

func TestEveryEndHasWordsForPeople(t *testing.T) {
	seen := map[string]bool{}
	for _, state := range []model.State{"queued", "running", "planned", "paused", "failed", "cancelled"} {
		seen[Message{Name: "web01", State: state}.Subject()] = true
	}
	for _, verdict := range []model.Verdict{"proved", "untested", "read", "undone"} {
		if !verdict.Valid() {
			t.Errorf("there is no verdict %s", verdict)
		}
		seen[Message{Name: "web01", State: "done", Verdict: verdict}.Subject()] = true
	}
	for subject := range seen {
		if len(strings.Fields(subject)) < 2 || !strings.HasPrefix(subject, "web01 ") {
			t.Errorf("subject %q", subject)
		}
	}
	if len(seen) != 10 {
		t.Errorf("two say the same: %v", seen)
	}
	const want = `wéb01 Bcc: all@example.org failed.

What happened: disk0: the target is full
What to try: make room
Migration: 01kaz3y2mq-web01
Appliance: kvm1
Time: 2026-11-26T10:00:00Z
`
	m := message
	m.Detail = "disk0: the\ttarget\nis full"
	if got := m.Text(); got != want {
		t.Errorf("Text = %q, want %q", got, want)
	}
}

func TestASecretThatIsMissingIsNamed(t *testing.T) {
	missing := func(name string) ([]byte, error) { return nil, errors.New("there is no secret " + name) }
	for _, w := range []config.Webhook{{Name: "w", URLSecret: "gone"}, {Name: "w", URL: "https://h", Secret: "gone"}} {
		if _, err := Target(w, missing); err == nil || !strings.Contains(err.Error(), "of the webhook w: there is no secret gone") {
			t.Errorf("Target = %v", err)
		}
	}
}
