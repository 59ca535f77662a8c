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
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/webhook"
)

// told has all receivers of settings told messages, each as often as it wants, and
// returns the log. The pauses between are not waited for.
func told(t *testing.T, s config.Notify, secret Secret, messages ...Message) string {
	t.Helper()
	var log bytes.Buffer
	for _, r := range Receivers(s, secret, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))) {
		for _, m := range messages {
			for try := 1; ; try++ {
				again := r.Tell(t.Context(), m, try)
				if again == 0 {
					break
				}
				if again < atLeast || again > atMost {
					t.Errorf("%s is told again after %v", r.Name, again)
				}
			}
		}
	}
	return log.String()
}

func TestWhoWantsToKnowIsToldUntilItIsTaken(t *testing.T) {
	heard := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	said := told(t, config.Notify{Mail: &m, Webhooks: []config.Webhook{
		{Name: "busy", URL: server.URL + "/busy", Secret: "key", Events: both},
		{Name: "never", URL: server.URL + "/never", Events: both},
		{Name: "broken", URL: server.URL + "/broken", Events: []model.State{"done"}},
		{Name: "hidden", URLSecret: "address", Events: both},
	}}, func(name string) ([]byte, error) {
		return map[string][]byte{"key": []byte("hunter2"), "address": []byte(server.URL + "/hunter3\n")}[name], nil
	}, Message{ID: "e1", State: "done"}, Message{ID: "e2", State: "failed"}, Message{ID: "e3", State: "running"})
	want := map[string]int{"/busy e1 signed true": 4, "/busy e2 signed true": 4, "/never e1 signed false": 1, "/never e2 signed false": 1,
		"/broken e1 signed false": tries, "/hunter3 e1 signed false": 1, "/hunter3 e2 signed false": 1}
	if mails, _ := p.taken(); len(mails) != 1 || fmt.Sprint(heard) != fmt.Sprint(want) {
		t.Errorf("heard is %v, want %v, and %d mails", heard, want, len(mails))
	}
	if strings.Count(said, "level=WARN") != 3 || strings.Contains(said, "hunter") || !strings.Contains(said, `msg="somebody was not notified" receiver=webhook-never`) {
		t.Errorf("the log says\n%s", said)
	}
}

// What is cut short by the end of the agent is told when it is started again.
func TestWhatWasCutShortIsNotGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil { // without which the server does not see that the client is gone
			t.Error(err)
		}
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	all := Receivers(config.Notify{Webhooks: []config.Webhook{{Name: "slow", URL: server.URL, Events: []model.State{"done"}}}}, nil, slog.New(slog.DiscardHandler))
	if again := all[0].Tell(ctx, Message{ID: "e1", State: "done"}, tries); again == 0 {
		t.Error("it is given up")
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
