package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/fleet"
)

// TestOneApplianceBecomesAHubAndThenThree keeps what was kept, each time.
func TestOneApplianceBecomesAHubAndThenThree(t *testing.T) {
	slow(t)
	f, state := founded(t)
	alone := config(t, quick(t))
	alone.State = state
	e, err := Open(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	submitted(t, e, "web01", spec())
	ends(t, e, "web01", model.StateDone)
	if err := e.States().Create(t.Context(), "users.ops", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	e.Record(t.Context(), auth.Entry{Action: "user.create", Target: "ops"})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	hub := played{State: state, Name: "a1", Lease: time.Second, Folder: t.TempDir(), Shape: Shape{Listen: freePort(t)}}
	a := hub.start(t)
	holds(t, observer(t, f, hub.Shape), "web01")
	a.kill(t)

	list := votingAs(t, []string{state, joins(t, f, fleet.Voting), joins(t, f, fleet.Voting)})
	three := launchAll(t, list)
	watch := observer(t, f, list[1].Shape) // which had nothing
	holds(t, watch, "web01")
	submitted(t, watch, "db01", spec())
	ends(t, watch, "db01", model.StateDone)
	time.Sleep(stale) // until what belongs to nobody would be removed
	three[0].kill(t)  // which had it all
	holds(t, watch, "web01", "db01")
}

// stale is how long a server that has joined others waits until it removes what it has
// and they do not know. Source: nats-server, server/jetstream_cluster.go, checkForOrphans.
const stale = 40 * time.Second

// elected is how long an election may take on a busy machine: a server that hears of no
// leader stands for it after 4 to 9 s. Source: nats-server, server/raft.go, minElectionTimeout.
const elected = 40 * time.Second

// holds wants migrations that are done, and what else was kept: at the latest when those
// that vote have elected others in the place of one that was killed.
func holds(t *testing.T, e *Engine, ids ...string) {
	t.Helper()
	for _, id := range ids {
		ends(t, e, id, model.StateDone)
	}
	var text []byte
	var list []Numbered
	var err, failed error
	for limit := time.Now().Add(elected); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		text, _, err = e.States().Read(t.Context(), "users.ops")
		list, failed = e.Audited(t.Context(), 0, 10)
		if err == nil && failed == nil {
			break
		}
	}
	if err != nil || string(text) != "kept" {
		t.Errorf("a user is %q, %v", text, err)
	}
	if failed != nil || len(list) != 1 {
		t.Errorf("audited are %v, %v", list, failed)
	}
	if n := len(e.List(func(*model.Migration) bool { return true }, "", 10).Items); n != len(ids) {
		t.Error(fmt.Sprint(n), "migrations are listed, want", len(ids))
	}
}

func TestWhatIsCarriedOverIsWrittenOutOnce(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	if carry, err := carries(t.Context(), c, "a1"); carry || err != nil {
		t.Errorf("a new appliance carries over: %v, %v", carry, err)
	}
	e, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	submitted(t, e, "web01", spec())
	ends(t, e, "web01", model.StateDone)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := carries(t.Context(), c, e.id); !errors.Is(err, ErrShape) || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("one that has joined has migrations of its own: %v", err)
	}
	c.Shape.Cluster.First = true
	if err := os.MkdirAll(filepath.Join(c.State, carried+".new", "EVENTS"), 0o700); err != nil { // it was killed while it wrote
		t.Fatal(err)
	}
	for range 2 { // and before it had begun to carry
		if carry, err := carries(t.Context(), c, e.id); !carry || err != nil {
			t.Errorf("it carries over: %v, %v", carry, err)
		}
	}
	for _, name := range []string{"engine", carried + ".new"} {
		if there, err := exists(filepath.Join(c.State, name)); there || err != nil {
			t.Errorf("%s is there: %v, %v", name, there, err)
		}
	}
}
