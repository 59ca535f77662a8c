package serve

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// yard is where several agents in processes of their own share two storages.
type yard struct {
	root   string
	agents map[string]*mortal
}

func newYard(t *testing.T) *yard {
	t.Helper()
	guesttest.Need(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon"})...)
	y := &yard{t.TempDir(), map[string]*mortal{}}
	for _, name := range []string{"from", "to"} {
		if err := os.Mkdir(filepath.Join(y.root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	y.guest(t)
	t.Cleanup(func() {
		for _, m := range y.agents {
			if err := m.server.Kill(); err != nil {
				t.Error(err)
			}
		}
		nothingLeft(t, y.root)
	})
	return y
}

// guest makes a small guest, with so much behind its partition that a copy takes a while.
func (y *yard) guest(t *testing.T) {
	t.Helper()
	path := filepath.Join(y.root, "from", "small.raw")
	if err := guesttest.Small(t.Context(), path, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, 96<<20); err != nil {
		t.Fatal(err)
	}
}

// settings writes those of an agent, and returns them. One that reaches no storages
// takes nothing.
func (y *yard) settings(t *testing.T, name, engine string, reaches bool) *config.Settings {
	t.Helper()
	folder := filepath.Join(y.root, name)
	text := fmt.Sprintf("state: %[1]s/state\nappliance: {name: %[2]s}\ncapacity: 2\nlisten: [{https: '%[3]s'}, {unix: %[1]s/agent.sock}]\nengine: {lease: 5s, %[4]s}\n", folder, name, freePort(t), engine)
	if reaches {
		text += fmt.Sprintf("storages: [{name: from, path: %[1]s/from, use: source}, {name: to, path: %[1]s/to, use: target}]\n", y.root)
	}
	file := filepath.Join(folder, "config.yaml")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (y *yard) born(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		folder := filepath.Join(y.root, name)
		s, err := proc.Start(t.Context(), proc.Service{Command: proc.Command{Name: agentPart, Args: []string{filepath.Join(folder, "config.yaml")}}, Part: true, NoSocket: true})
		if err != nil {
			t.Fatal(err)
		}
		y.agents[name] = &mortal{appliance{folder: folder}, s}
	}
	for _, name := range names {
		y.answers(t, name)
	}
}

// answers waits until an agent answers: those that vote need one another for that.
func (y *yard) answers(t *testing.T, name string) {
	t.Helper()
	m := y.agents[name]
	for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("unix", filepath.Join(m.folder, "agent.sock")); err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		select {
		case <-m.server.Done():
			t.Fatalf("%s ended: %s", name, m.server.Stderr())
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("%s does not answer: %s", name, m.server.Stderr())
		}
	}
}

func (y *yard) end(t *testing.T, name string) {
	t.Helper()
	if err := y.agents[name].server.Stop(); err != nil {
		t.Logf("%s ended with %v", name, err)
	}
}

// asks sends a request to an agent, and wants a status.
func (y *yard) asks(t *testing.T, name, method, path, body string, want int) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://appliance/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	reply, err := y.agents[name].local().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != want {
		t.Fatalf("%s %s at %s is answered with %d, %s, %v", method, path, name, reply.StatusCode, text, err)
	}
	return text
}

// joins has an agent join that does not run yet, by a token of one that does.
func (y *yard) joins(t *testing.T, s *config.Settings, by, role string) {
	t.Helper()
	hub, err := config.Load(filepath.Join(y.root, by, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var made model.InvitationToken
	answer := y.asks(t, by, "POST", "/appliances/invitations", fmt.Sprintf(`{"role":%q,"addresses":[%q]}`, role, hub.Listen[0].HTTPS), 201)
	if err := json.Unmarshal(answer, &made); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Join(t.Context(), s, guest.Secret(made.Token)); err != nil {
		t.Fatal(err)
	}
}

// until waits until a migration is as it should be, by the word of one agent.
func (y *yard) until(t *testing.T, name, id string, is func(model.Migration) bool) model.Migration {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var v model.Migration
		if y.agents[name].get(t, "/migrations/"+id, &v) == 200 && is(v) {
			return v
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is %+v", id, v)
		}
	}
}

func over(v model.Migration) bool {
	return v.State == model.StateDone || v.State == model.StateFailed
}

const spec = `{"id":%q,"spec":{"name":%[1]q,"source":{"storage":"from","path":"small.raw"},"target":{"storage":"to"},"engine":"direct","test":{"skip":"not part of this"},"limits":[%q]}}`

// slow has a copy take 12 seconds: how far it is, is kept every 5.
const slow = "8M"

// copying waits until a migration has copied a part of its disk, and tells who does it.
func (y *yard) copying(t *testing.T, name, id string) string {
	t.Helper()
	v := y.until(t, name, id, func(v model.Migration) bool {
		return over(v) || v.Progress.Total > 0 && v.Progress.Virtual > 70<<20 && len(v.Stages) > 5 && v.Stages[5].State == model.StageStateRunning
	})
	if over(v) {
		t.Fatalf("%s ended before it was seen to copy: %+v", id, v)
	}
	return v.Appliance
}

// finished kills the agent that copies, and wants another one to finish that.
func (y *yard) finished(t *testing.T, watcher, id string) (killed string) {
	t.Helper()
	y.asks(t, watcher, "POST", "/migrations", fmt.Sprintf(spec, id, slow), 202)
	killed = y.copying(t, watcher, id)
	if killed == watcher {
		watcher = y.other(watcher)
	}
	if err := y.agents[killed].server.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	v := y.until(t, watcher, id, func(v model.Migration) bool { return over(v) || v.Appliance != "" && v.Appliance != killed })
	t.Logf("%s was killed, and %s took over after %v", killed, v.Appliance, time.Since(began))
	v = y.until(t, watcher, id, over)
	t.Logf("it was finished after %v", time.Since(began))
	if v.State != model.StateDone || v.Verdict != model.VerdictUntested || len(v.Operations) != 1 || !v.Operations[0].Done {
		t.Errorf("it ended as %+v", v)
	}
	y.verified(t, watcher, id)
	return killed
}

func (y *yard) other(name string) string {
	for n := range y.agents {
		if n != name {
			return n
		}
	}
	return name
}

func (y *yard) verified(t *testing.T, name, id string) {
	t.Helper()
	y.asks(t, name, "POST", "/migrations/"+id+"/verify", `{"againstSource":true}`, 202)
	v := y.until(t, name, id, over)
	last := v.Operations[len(v.Operations)-1]
	if v.State != model.StateDone || len(last.Verified) != 2 || last.Verified[0].Differs != "" || last.Verified[1].Differs != "" {
		t.Errorf("verified, it is %+v", v)
	}
}

func TestAnotherWorkerFinishesWhatOneThatWasKilledHasCopied(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	port := freePort(t)
	y.settings(t, "a1", "shape: hub, hub: {listen: '"+port+"'}", false)
	y.born(t, "a1")
	for _, name := range []string{"a2", "a3"} {
		y.joins(t, y.settings(t, name, "shape: worker, worker: {hub: '"+port+"'}", true), "a1", "worker")
	}
	y.born(t, "a2", "a3")
	y.asks(t, "a2", "POST", "/appliances/invitations", `{}`, 409) // a worker lets nobody in
	killed := y.finished(t, "a1", "web01")
	y.removed(t, killed)
	y.away(t)
}

// removed has the hub let an appliance in no more, and wants that to hold.
func (y *yard) removed(t *testing.T, name string) {
	t.Helper()
	var list struct{ Items []model.Appliance }
	find := func(a model.Appliance) bool { return a.Name == name }
	y.agents["a1"].get(t, "/appliances", &list)
	i := slices.IndexFunc(list.Items, find)
	if i < 0 {
		t.Fatalf("%s is not among %+v", name, list)
	}
	y.asks(t, "a1", "DELETE", "/appliances/"+list.Items[i].ID, "", 204)
	for limit := time.Now().Add(30 * time.Second); slices.ContainsFunc(list.Items, find); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s is not forgotten: %+v", name, list)
		}
		y.agents["a1"].get(t, "/appliances", &list)
	}
	s, err := config.Load(filepath.Join(y.root, name, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), s, "test", io.Discard, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "it was removed from the fleet") {
		t.Errorf("removed, it ends with %v", err)
	}
}

// away stops the hub for ten seconds while a worker copies.
func (y *yard) away(t *testing.T) {
	t.Helper()
	y.asks(t, "a1", "POST", "/migrations", fmt.Sprintf(spec, "db01", slow), 202)
	owner := y.copying(t, "a1", "db01")
	if err := y.agents["a1"].server.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second) // its lease is over after 5
	y.born(t, "a1")
	v := y.until(t, "a1", "db01", over)
	if v.State != model.StateDone || len(v.Operations) != 1 {
		t.Errorf("%s was without its hub, and it ended as %+v", owner, v)
	}
	y.verified(t, "a1", "db01")
}

func TestOneOfThreeThatVoteFinishesWhatAnotherHasCopied(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.settings(t, "a1", "shape: single", true)
	y.born(t, "a1")
	y.asks(t, "a1", "POST", "/migrations", fmt.Sprintf(spec, "before", "unlimited"), 202)
	y.until(t, "a1", "before", over)
	peers := ""
	for _, name := range []string{"a1", "a2", "a3"} {
		peers += fmt.Sprintf("{name: %s, address: '%s'}, ", name, freePort(t))
	}
	shape := func(name string) string {
		_, own, _ := strings.Cut(peers, "{name: "+name+", address: '")
		own, _, _ = strings.Cut(own, "'")
		return fmt.Sprintf("shape: cluster, cluster: {name: fleet, listen: '%s', peers: [%s]}", own, strings.TrimSuffix(peers, ", "))
	}
	for _, name := range []string{"a2", "a3"} {
		y.joins(t, y.settings(t, name, shape(name), true), "a1", "voting")
	}
	y.end(t, "a1")
	y.settings(t, "a1", shape("a1"), true)
	began := time.Now()
	y.born(t, "a1", "a2", "a3")
	t.Logf("the three answered after %v", time.Since(began))
	if v := y.until(t, "a3", "before", over); v.State != model.StateDone {
		t.Errorf("what was kept before is %+v", v)
	}
	killed := y.finished(t, "a2", "web01")
	y.born(t, killed)
	y.until(t, killed, "web01", over)
}

func TestAWorkerWithoutACertificateSaysHowToJoin(t *testing.T) {
	folder := t.TempDir()
	for shape, words := range map[string]string{
		"shape: worker, worker: {hub: '127.0.0.1:4222'}": "run hyper2kvm fleet invite on the hub",
		"shape: cluster, cluster: {name: f, peers: [{name: a1, address: 'a1:1'}, {name: a2, address: 'a2:1'}, {name: a3, address: 'a3:1'}]}": "begin with one appliance by itself",
		"shape: external, external: {url: 'tls://127.0.0.1:4222', credentials: /none}":                                                       "engine.external.credentials",
	} {
		file := filepath.Join(folder, "config.yaml")
		if err := os.WriteFile(file, []byte("state: "+folder+"/state\nappliance: {name: a1}\nengine: {"+shape+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := Run(ctx, s, "test", io.Discard, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s ends with %v, want %q", shape, err, words)
		}
	}
}
