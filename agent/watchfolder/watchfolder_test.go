package watchfolder

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// taker plays the engine: it takes what it is given, once for a key.
type taker struct {
	keys  map[string]string // IDs
	paths []string
	state model.State
}

func (k *taker) Submit(_ context.Context, _ string, s model.Spec, _, _, key string) (engine.Record, error) {
	if k.keys == nil {
		k.keys = map[string]string{}
	}
	if k.keys[key] == "" {
		k.keys[key] = s.Source.Path
		k.paths = append(k.paths, s.Source.Path)
	}
	return engine.Record{Migration: model.Migration{ID: k.keys[key]}}, nil
}

func (k *taker) View(_ context.Context, id string) (model.Migration, error) {
	return model.Migration{ID: id, State: k.state, Problem: model.Problem{Detail: "it is encrypted", Try: "decrypt it"}}, nil
}

type bench struct {
	*Watcher
	folder string
	taker  *taker
	clock  time.Time
}

func newBench(t *testing.T) *bench {
	b := &bench{folder: t.TempDir(), taker: &taker{state: model.StateRunning}, clock: time.Now()}
	b.again(t)
	return b
}

// again is a watcher that has seen nothing, as after a restart.
func (b *bench) again(t *testing.T) {
	b.Watcher = New(Folder{Storage: "drop", Root: b.folder, Path: ".", Settled: time.Minute, Spec: model.Spec{Target: model.Target{Storage: "kvm"}}}, b.taker, slog.New(slog.NewTextHandler(t.Output(), nil)))
	b.now = func() time.Time { return b.clock }
}

func (b *bench) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(b.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// look looks after a time.
func (b *bench) look(t *testing.T, later time.Duration) []string {
	t.Helper()
	b.clock = b.clock.Add(later)
	if err := b.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b.taker.paths
}

func TestAGuestIsTakenOnceWhenItHasSettled(t *testing.T) {
	b := newBench(t)
	b.put(t, "web01/web01.vmdk", "half")
	b.look(t, 0)
	b.put(t, "web01/web01.vmdk", "half and more")
	if got := b.look(t, time.Hour); len(got) > 0 {
		t.Errorf("one that grows was taken: %v", got)
	}
	if got := b.look(t, 59*time.Second); len(got) > 0 {
		t.Errorf("it was taken early: %v", got)
	}
	if got := b.look(t, time.Second); !slices.Equal(got, []string{"web01/web01.vmdk"}) {
		t.Errorf("taken are %v", got)
	}
	b.look(t, time.Hour)
	b.again(t)
	b.look(t, 0)
	if got := b.look(t, time.Hour); len(got) != 1 {
		t.Errorf("it was taken again: %v", got)
	}
	b.put(t, "web01/web01.vmdk", "another guest")
	b.look(t, 0)
	if got := b.look(t, time.Hour); len(got) != 2 {
		t.Errorf("another one in its place was not taken: %v", got)
	}
}

func TestWhatIsAGuest(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{
		"a/a.vmx", "a/a.vmdk", "a/a-flat.vmdk", "a/nvram",
		"b/b.vmdk", "b/b-s001.vmdk", "b/b-f002.vmdk", "b/b-000001.vmdk", "b/b-000001-delta.vmdk", "b/b-ctk.vmdk",
		"c.qcow2", "d.RAW", "e.iso", "f.txt", ".hidden.raw", ".errors/x.raw", "deep/1/2/3/g.raw",
	} {
		b.put(t, name, name)
	}
	b.look(t, 0)
	if got := strings.Join(b.look(t, time.Hour), " "); got != "c.qcow2 d.RAW a/a.vmx b/b.vmdk" {
		t.Errorf("taken are %s", got)
	}
}

func TestWhyAGuestWasNotMigratedIsToldBesideIt(t *testing.T) {
	b := newBench(t)
	b.put(t, "web01/web01.vmx", "x")
	b.look(t, 0)
	b.look(t, time.Hour)
	b.taker.state = model.StateFailed
	b.look(t, time.Second)
	note := filepath.Join(b.folder, ".errors", "web01_web01.vmx.txt")
	if text, err := os.ReadFile(note); err != nil || !strings.Contains(string(text), "it is encrypted\ndecrypt it") {
		t.Errorf("the note says %q, %v", text, err)
	}
	b.taker.state = model.StateDone
	b.look(t, time.Second)
	if _, err := os.Stat(note); err == nil {
		t.Error("the note is left when it is done")
	}
}
