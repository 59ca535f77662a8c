package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/notify"
	"hyper2kvm/fixers/guest/guesttest"
)

// desk is a receiver that at first refuses, or takes for ever.
type desk struct {
	*httptest.Server
	mu    sync.Mutex
	down  bool
	hang  chan struct{}
	asked []string // the IDs of messages, each time that one comes
	taken []string // the migrations of those that were taken
}

func newDesk(t *testing.T) *desk {
	d := &desk{hang: make(chan struct{})}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m notify.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		d.mu.Lock()
		first, down := len(d.asked) == 0, d.down
		d.asked = append(d.asked, m.ID)
		if !first && !down {
			d.taken = append(d.taken, m.Migration)
		}
		d.mu.Unlock()
		switch {
		case first:
			<-d.hang
		case down:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(d.Close)
	t.Cleanup(func() { close(d.hang) }) // before the server waits for it
	return d
}

func (d *desk) set(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// until waits until what the desk was asked is as it should be.
func (d *desk) until(t *testing.T, what string, is func(asked, taken []string) bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		d.mu.Lock()
		asked, taken := slices.Clone(d.asked), slices.Clone(d.taken)
		d.mu.Unlock()
		if is(asked, taken) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: it was asked %q, and took %q", what, asked, taken)
		}
	}
}

// TestWhatNobodyWasToldSurvivesAKill kills the agent while it tells a receiver, and while
// one waits that will not hear. The migrations are of a guest that is not there: that they
// fail is told.
func TestWhatNobodyWasToldSurvivesAKill(t *testing.T) {
	guesttest.Slow(t)
	d, folder := newDesk(t), t.TempDir()
	started(t, folder, "notify: {webhooks: [{name: desk, url: '"+d.URL+"', events: [failed]}]}\n").stop(t) // which leaves its settings
	m := born(t, folder)
	defer func() { m.kill(t) }()
	fails := func(id string) {
		t.Helper()
		body := fmt.Sprintf(`{"id":%q,"spec":{"name":%[1]q,"source":{"storage":"from","path":"none.raw"},"target":{"storage":"to"}}}`, id)
		if status := m.post(t, "/migrations", body); status != 202 {
			t.Fatalf("%s is answered with %d", id, status)
		}
	}
	fails("first")
	d.until(t, "the first time", func(asked, _ []string) bool { return len(asked) == 1 })
	m.kill(t)
	m = born(t, folder)
	d.until(t, "killed while it tells", func(asked, taken []string) bool {
		return slices.Equal(taken, []string{"first"}) && slices.Equal(asked, []string{asked[0], asked[0]})
	})
	d.set(true)
	fails("second")
	fails("third")
	d.until(t, "refused", func(asked, _ []string) bool { return len(asked) > 3 })
	m.kill(t)
	d.set(false)
	m = born(t, folder)
	d.until(t, "killed while it waits", func(_, taken []string) bool { return slices.Equal(taken, []string{"first", "second", "third"}) })
}
