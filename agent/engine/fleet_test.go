package engine

import (
	"context"
	"crypto/tls"
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
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/fleet/fleettest"
	"hyper2kvm/agent/seal"
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
	c, err := p.config(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	e, err := Open(context.Background(), c)
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

func (p played) config(log *slog.Logger) (Config, error) {
	w := &stepper{folder: p.Folder, steps: p.Steps, each: p.Each}
	shape, err := secured(p.State, p.Shape)
	return Config{State: p.State, Name: p.Name, Version: "test", Storages: []string{"from", "to"}, Capacity: p.Capacity, Lease: p.Lease, Shape: shape, Worker: w, Log: log}, err
}

// secured is a shape with the certificate that is kept in a state folder.
func secured(state string, s Shape) (Shape, error) {
	sealer, err := seal.Load(filepath.Join(state, "seal.key"))
	if err != nil {
		return s, err
	}
	m, err := fleet.Open(state, sealer)
	if errors.Is(err, fleet.ErrAlone) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.TLS, s.Cluster.TLS, s.Cluster.First = m.TLS(), m.Peers(), m.Founder()
	return s, nil
}

// founded is a fleet, and the state folder of its first appliance.
func founded(t *testing.T) (f *fleettest.Fleet, state string) {
	t.Helper()
	state = t.TempDir()
	return fleettest.New(t, state, identity(t, state)), state
}

// joins is the state folder of an appliance that has joined.
func joins(t *testing.T, f *fleettest.Fleet, role fleet.Role) string {
	t.Helper()
	state := t.TempDir()
	f.Joined(t, state, identity(t, state), role)
	return state
}

func identity(t *testing.T, state string) string {
	t.Helper()
	id, err := Identity(state)
	if err != nil {
		t.Fatal(err)
	}
	return id
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

// observer is an engine that has joined, and takes nothing itself.
func observer(t *testing.T, f *fleettest.Fleet, hub Shape) *Engine {
	t.Helper()
	state := joins(t, f, fleet.Worker)
	s, err := secured(state, worksFor(hub))
	if err != nil {
		t.Fatal(err)
	}
	return opened(t, Config{State: state, Name: "observer", Version: "test", Lease: time.Second, Shape: s, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// worksFor is the shape of one that works for another.
func worksFor(hub Shape) Shape { return Shape{URL: "tls://" + hub.Listen} }

func TestAnotherFinishesWhatAKilledAppliancesBegan(t *testing.T) {
	for _, shape := range []string{"hub and workers", "three that vote"} {
		t.Run(shape, func(t *testing.T) {
			slow(t)
			f, list := hubAndWorkers(t)
			if shape != "hub and workers" {
				f, list = voting(t)
			}
			fleet := launchAll(t, list)
			watch := observer(t, f, list[0].Shape)
			submitted(t, watch, "web01", spec())
			fleet[0].reaches(t, "web01", 10)
			m := awaited(t, watch, "web01", func(m model.Migration) bool { return m.Appliance == "a1" || m.Appliance == "a2" || m.Appliance == "a3" })
			for _, a := range fleet {
				if a.Name == m.Appliance {
					a.kill(t)
				}
			}
			at := fleet[0].steps("web01")
			if at >= list[0].Steps {
				t.Fatal("it was done before its owner was killed")
			}
			killed := m.Appliance
			done := ends(t, watch, "web01", model.StateDone, model.StateFailed)
			r, err := watch.read(t.Context(), "web01")
			if err != nil || done.State != model.StateDone || r.Epoch < 2 || fleet[0].steps("web01") != list[0].Steps || watch.nodes.name(r.Owner) == killed {
				t.Errorf("killed %s at step %d; it ended %s by %s, epoch %d, after %d steps", killed, at, done.State, watch.nodes.name(r.Owner), r.Epoch, fleet[0].steps("web01"))
			}
		})
	}
}

// hubAndWorkers are a hub that works on nothing, and two workers.
func hubAndWorkers(t *testing.T) (*fleettest.Fleet, []played) {
	t.Helper()
	f, state := founded(t)
	folder, hub := t.TempDir(), Shape{Listen: freePort(t)}
	list := []played{{State: state, Name: "a1", Shape: hub}}
	for _, name := range []string{"a2", "a3"} {
		list = append(list, played{State: joins(t, f, fleet.Worker), Name: name, Capacity: 2, Shape: worksFor(hub)})
	}
	return f, eachOf(list, folder)
}

func voting(t *testing.T) (*fleettest.Fleet, []played) {
	t.Helper()
	f, state := founded(t)
	return f, votingAs(t, []string{state, joins(t, f, fleet.Voting), joins(t, f, fleet.Voting)})
}

// votingAs are three that vote and have these state folders.
func votingAs(t *testing.T, states []string) (list []played) {
	t.Helper()
	var peers []string
	for range states {
		peers = append(peers, freePort(t))
	}
	for i, state := range states {
		others := append(append([]string{}, peers[:i]...), peers[i+1:]...)
		list = append(list, played{State: state, Name: fmt.Sprint("a", i+1), Capacity: 2, Shape: Shape{Listen: freePort(t), Cluster: Cluster{Name: "fleet", Listen: peers[i], Peers: others}}})
	}
	return eachOf(list, t.TempDir())
}

func eachOf(list []played, folder string) []played {
	for i := range list {
		list[i].Lease, list[i].Each, list[i].Folder, list[i].Steps = time.Second, 20*time.Millisecond, folder, 100
	}
	return list
}

// launchAll starts all at once: those that vote need one another.
func launchAll(t *testing.T, list []played) (fleet []*appliance) {
	t.Helper()
	for _, p := range list {
		fleet = append(fleet, p.launch(t))
	}
	for _, a := range fleet {
		a.ready(t)
	}
	return fleet
}

func TestAHubThatIsAwayForAWhileLosesNothing(t *testing.T) {
	slow(t)
	f, list := hubAndWorkers(t)
	list[0].Lease, list[1].Lease, list[1].Each, list[1].Steps = 15*time.Second, 15*time.Second, 50*time.Millisecond, 260
	hub := list[0].start(t)
	worker := list[1].start(t)
	watch := observer(t, f, list[0].Shape)
	submitted(t, watch, "web01", spec())
	worker.reaches(t, "web01", 10)
	hub.kill(t)
	at := worker.steps("web01")
	time.Sleep(10 * time.Second)
	if now := worker.steps("web01"); now < at+100 { // it does not wait for its hub
		t.Errorf("without its hub it came from step %d to %d", at, now)
	}
	list[0].start(t)
	ends(t, watch, "web01", model.StateDone)
	if r, err := watch.read(t.Context(), "web01"); err != nil || r.Epoch != 1 || worker.steps("web01") != 260 {
		t.Errorf("epoch %d, %d steps", r.Epoch, worker.steps("web01"))
	}
	if all := texts(t, watch, "web01", 1); !strings.Contains(all, `"state":"done"`) {
		t.Errorf("events:\n%s", all)
	}
}

// slow is a test that mostly waits. It runs once in all, and not with each of the unit
// runs.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("waits for ten seconds or more: set NEED_TOOLS=1")
	}
	t.Parallel()
}

// texts are what is told of a migration, or all, until some have come to their end.
func texts(t *testing.T, e *Engine, id string, ended int) string {
	t.Helper()
	var all []string
	for n, err := range e.Follow(timeout(t, 5*time.Second), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(n.JSON))
		if strings.Contains(string(n.JSON), `"state":"done"`) {
			if ended--; ended == 0 {
				break
			}
		}
	}
	return strings.Join(all, "\n")
}

func TestOneThatIsCutOffStopsBeforeAnotherBegins(t *testing.T) {
	slow(t)
	f, list := hubAndWorkers(t)
	list[1].Each, list[1].Steps = 10*time.Millisecond, 2000
	first := list[0].start(t)
	worker := list[1].start(t)
	watch := observer(t, f, list[0].Shape)
	submitted(t, watch, "web01", spec())
	worker.reaches(t, "web01", 10)
	first.kill(t)
	time.Sleep(4 * time.Second) // its lease is over
	at := worker.steps("web01")
	time.Sleep(200 * time.Millisecond)
	if now := worker.steps("web01"); now != at || at >= 2000 {
		t.Errorf("it worked on without a lease: %d steps, then %d", at, now)
	}
	list[0].start(t)
	worker.reaches(t, "web01", at+10) // and goes on when it is heard of again
}

func TestAFleetThatCannotVoteIsRefused(t *testing.T) {
	for peers, ok := range map[int]bool{1: false, 2: true, 3: false, 4: true, 5: false} {
		err := Shape{TLS: &tls.Config{}, Cluster: Cluster{Name: "fleet", Peers: make([]string, peers), TLS: &tls.Config{}}}.check()
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
	slow(t)
	f, state := founded(t)
	p := played{State: state, Name: "a1", Lease: time.Second, Each: 2 * time.Millisecond, Capacity: 4, Folder: t.TempDir(), Steps: 300, Shape: Shape{Listen: freePort(t)}}
	a := p.start(t)
	watch := observer(t, f, p.Shape)
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
	if n := strings.Count(texts(t, watch, "", 4), `"state":"done"`); n != 4 {
		t.Errorf("%d of 4 ends were told", n)
	}
}
