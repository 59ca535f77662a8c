package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/proc"
)

// A part of these tests is an appliance in a process of its own, which can be killed.
const appliancePart = "engine-test-appliance"

func TestMain(m *testing.M) {
	if os.Args[0] == appliancePart {
		if err := playAppliance(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// played is what an appliance of its own is started with.
type played struct {
	State, Name string
	Lease, Each time.Duration
	Capacity    int
	Shape       Shape
	Folder      string // that all of them share
	Steps       int
}

// submission is a batch that an appliance of its own is told to submit.
type submission struct {
	Batch      string
	Migrations int
}

// playAppliance works until it is killed or its standard input ends.
func playAppliance() error {
	in := json.NewDecoder(os.Stdin)
	var p played
	if err := in.Decode(&p); err != nil {
		return err
	}
	e, err := Open(context.Background(), p.config(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.State, "ready"), []byte(e.ID()), 0o600); err != nil {
		return err
	}
	for {
		var b submission
		if err := in.Decode(&b); errors.Is(err, io.EOF) {
			return e.Close()
		} else if err != nil {
			return err
		}
		if _, err := e.SubmitBatch(context.Background(), wave(b.Batch, b.Migrations, 0)); err != nil {
			return err
		}
	}
}

func (p played) config(log *slog.Logger) Config {
	w := &stepper{folder: p.Folder, steps: p.Steps, each: p.Each}
	return Config{State: p.State, Name: p.Name, Version: "test", Storages: []string{"from", "to"}, Capacity: p.Capacity, Lease: p.Lease, Shape: p.Shape, Worker: w, Log: log}
}

// appliance is one in a process of its own.
type appliance struct {
	played
	server *proc.Server
	input  *os.File // it ends when this is closed
}

func (p played) start(t *testing.T) *appliance {
	t.Helper()
	a := p.launch(t)
	a.ready(t)
	return a
}

// launch starts an appliance, and does not wait for it.
func (p played) launch(t *testing.T) *appliance {
	t.Helper()
	if p.State == "" {
		p.State = t.TempDir()
	}
	if err := os.RemoveAll(filepath.Join(p.State, "ready")); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	s, err := proc.Start(t.Context(), proc.Service{Command: proc.Command{Name: appliancePart, Stdin: r}, Part: true, NoSocket: true})
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	a := &appliance{p, s, w}
	t.Cleanup(func() { a.kill(t) })
	return a
}

func (a *appliance) ready(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(startLimit); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(a.State, "ready")); err == nil {
			return
		}
		select {
		case <-a.server.Done():
			t.Fatalf("%s ended: %v", a.Name, a.server.Err())
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is not ready: %s", a.Name, a.server.Stderr())
		}
	}
}

func (a *appliance) kill(t *testing.T) {
	if err := a.server.Kill(); err != nil {
		t.Error(err)
	}
	if err := a.input.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// steps is how far a migration is, by what its worker has left.
func (p played) steps(id string) int {
	text, _ := os.ReadFile(filepath.Join(p.Folder, id))
	return len(text)
}

func (p played) reaches(t *testing.T, id string, n int) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); p.steps(id) < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s has done %d steps, want %d", id, p.steps(id), n)
		}
	}
}

// observer is an engine that takes nothing itself.
func observer(t *testing.T, s Shape) *Engine {
	return opened(t, Config{State: t.TempDir(), Name: "observer", Version: "test", Lease: time.Second, Shape: s, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

func TestAnotherFinishesWhatAKilledAppliancesBegan(t *testing.T) {
	for _, shape := range []string{"hub and workers", "three that vote"} {
		t.Run(shape, func(t *testing.T) {
			shapes := hubAndWorkers(t)
			if shape != "hub and workers" {
				shapes = voting(t)
			}
			fleet := launchAll(t, shapes, 100)
			watch := observer(t, Shape{URL: "nats://" + shapes[0].Listen})
			submitted(t, watch, "web01", spec())
			m := ends(t, watch, "web01", model.StateRunning)
			fleet[0].reaches(t, "web01", 10)
			m = awaited(t, watch, "web01", func(m model.Migration) bool { return m.Appliance == "a1" || m.Appliance == "a2" || m.Appliance == "a3" })
			for _, a := range fleet {
				if a.Name == m.Appliance {
					a.kill(t)
				}
			}
			at := fleet[0].steps("web01")
			if at >= 100 {
				t.Fatal("it was done before its owner was killed")
			}
			killed := m.Appliance
			done := ends(t, watch, "web01", model.StateDone, model.StateFailed)
			r, err := watch.read(t.Context(), "web01") // what this one has seen may be older: it too has lost its server
			if err != nil {
				t.Fatal(err)
			}
			if done.State != model.StateDone || r.Epoch < 2 || fleet[0].steps("web01") != 100 || watch.nodes.name(r.Owner) == killed {
				t.Errorf("killed %s at step %d; it ended %s by %s, epoch %d, after %d steps", killed, at, done.State, watch.nodes.name(r.Owner), r.Epoch, fleet[0].steps("web01"))
			}
		})
	}
}

// hubAndWorkers are a hub that works on nothing, and two workers.
func hubAndWorkers(t *testing.T) []Shape {
	hub := Shape{Listen: freePort(t)}
	worker := Shape{URL: "nats://" + hub.Listen}
	return []Shape{hub, worker, worker}
}

func voting(t *testing.T) []Shape {
	var peers []string
	for range 3 {
		peers = append(peers, freePort(t))
	}
	var list []Shape
	for i := range peers {
		others := append(append([]string{}, peers[:i]...), peers[i+1:]...)
		list = append(list, Shape{Listen: freePort(t), Cluster: Cluster{Name: "fleet", Listen: peers[i], Peers: others}})
	}
	return list
}

func launchAll(t *testing.T, shapes []Shape, steps int) (fleet []*appliance) {
	folder := t.TempDir()
	for i, s := range shapes {
		capacity := 2
		if i == 0 && s.Cluster.Name == "" {
			capacity = 0
		}
		p := played{Name: fmt.Sprintf("a%d", i+1), Lease: time.Second, Each: 20 * time.Millisecond, Capacity: capacity, Shape: s, Folder: folder, Steps: steps}
		a := p.launch(t)
		if s.Cluster.Name == "" {
			a.ready(t) // a worker needs its hub
		}
		fleet = append(fleet, a)
	}
	for _, a := range fleet {
		a.ready(t)
	}
	return fleet
}

func TestAHubThatIsAwayForAWhileLosesNothing(t *testing.T) {
	shapes := hubAndWorkers(t)
	folder := t.TempDir()
	hub := played{State: t.TempDir(), Name: "hub", Lease: 4 * time.Second, Shape: shapes[0], Folder: folder}
	first := hub.start(t)
	worker := played{Name: "worker", Lease: 4 * time.Second, Each: 20 * time.Millisecond, Capacity: 2, Shape: shapes[1], Folder: folder, Steps: 120}.start(t)
	watch := observer(t, shapes[1])
	submitted(t, watch, "web01", spec())
	worker.reaches(t, "web01", 10)
	first.kill(t)
	at := worker.steps("web01")
	worker.reaches(t, "web01", at+20) // it does not wait for its hub
	hub.start(t)
	ends(t, watch, "web01", model.StateDone)
	if r, _ := watch.table.get("web01"); r.Epoch != 1 || worker.steps("web01") != 120 {
		t.Errorf("epoch %d, %d steps", r.Epoch, worker.steps("web01"))
	}
	var texts []string
	for n, err := range watch.Follow(timeout(t, 2*time.Second), "web01", 0) {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(n.JSON))
		if strings.Contains(string(n.JSON), `"state":"done"`) {
			break
		}
	}
	if all := strings.Join(texts, "\n"); !strings.Contains(all, `"state":"done"`) {
		t.Errorf("events:\n%s", all)
	}
}

func TestOneThatIsCutOffStopsBeforeAnotherBegins(t *testing.T) {
	shapes := hubAndWorkers(t)
	folder := t.TempDir()
	hub := played{State: t.TempDir(), Name: "hub", Lease: time.Second, Shape: shapes[0], Folder: folder}
	first := hub.start(t)
	worker := played{Name: "worker", Lease: time.Second, Each: 10 * time.Millisecond, Capacity: 2, Shape: shapes[1], Folder: folder, Steps: 2000}.start(t)
	watch := observer(t, shapes[1])
	submitted(t, watch, "web01", spec())
	worker.reaches(t, "web01", 10)
	first.kill(t)
	time.Sleep(1500 * time.Millisecond) // its lease is over
	at := worker.steps("web01")
	time.Sleep(200 * time.Millisecond)
	if now := worker.steps("web01"); now != at || at >= 2000 {
		t.Errorf("it worked on without a lease: %d steps, then %d", at, now)
	}
	hub.start(t)
	worker.reaches(t, "web01", at+10) // and goes on when it is heard of again
}

func TestAFleetThatCannotVoteIsRefused(t *testing.T) {
	for peers, ok := range map[int]bool{1: false, 2: true, 3: false, 4: true, 5: false} {
		err := Shape{Cluster: Cluster{Name: "fleet", Peers: make([]string, peers)}}.check()
		if (err == nil) != ok || err != nil && (!errors.Is(err, ErrShape) || !strings.Contains(err.Error(), "have 3 or 5")) {
			t.Errorf("%d appliances: %v", peers+1, err)
		}
	}
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestKilledAtAnyMoment kills an appliance again and again, and each time it goes on.
func TestKilledAtAnyMoment(t *testing.T) {
	p := played{State: t.TempDir(), Name: "a1", Lease: time.Second, Each: 2 * time.Millisecond, Capacity: 4, Folder: t.TempDir(), Steps: 300, Shape: Shape{Listen: freePort(t)}}
	a := p.start(t)
	watch := observer(t, Shape{URL: "nats://" + p.Shape.Listen})
	for i := range 4 {
		submitted(t, watch, fmt.Sprintf("m%d", i), spec())
	}
	for kills := range 12 {
		time.Sleep(time.Duration(10+kills*17) * time.Millisecond)
		a.kill(t)
		a = p.start(t)
	}
	for i := range 4 {
		id := fmt.Sprintf("m%d", i)
		if m := ends(t, watch, id, model.StateDone, model.StateFailed); m.State != model.StateDone || p.steps(id) != 300 || len(m.Operations) != 1 || !m.Operations[0].Done {
			t.Errorf("%s is %s after %d steps, operations %+v", id, m.State, p.steps(id), m.Operations)
		}
	}
	states := 0
	for n, err := range watch.Follow(timeout(t, 5*time.Second), "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(n.JSON), `"state":"done"`) {
			if states++; states == 4 {
				break
			}
		}
	}
	if states != 4 {
		t.Errorf("%d of 4 ends were told", states)
	}
}
