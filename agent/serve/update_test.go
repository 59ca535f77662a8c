package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/update"
)

// playedVersions plays a machine whose updates are texts: their versions.
type playedVersions struct{ more chan struct{} } // an update waits for one, if there is any

func (playedVersions) Version() (string, error) { return "1.0", nil }

func (playedVersions) Look(context.Context) (update.Status, error) {
	return update.Status{Running: "1.0", Other: "1.1", State: update.Failed, Started: 3}, nil
}

func (p playedVersions) Install(_ context.Context, from io.Reader, done func(int64)) (string, error) {
	text, err := io.ReadAll(from)
	done(int64(len(text)))
	if p.more != nil {
		<-p.more
	}
	if string(text) == "bad" {
		return "", fmt.Errorf("%w: it is not signed", update.ErrArchive)
	}
	return string(text), err
}

// updating is what is tested, with a storage that has a good update and a bad one.
func updating(t *testing.T, running ...string) (u *updates, restarted *atomic.Int32) {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{"good": "1.1", "bad": "bad"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var n atomic.Int32
	return &updates{ctx: t.Context(), machine: playedVersions{}, storages: storage.List{{Name: "local", Path: folder}}, running: func() []string { return running },
		restart: func(context.Context) error { n.Add(1); return nil }, log: slog.New(slog.DiscardHandler)}, &n
}

func (u *updates) ended(t *testing.T) (model.Update, error) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		m, failed, err := u.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Installing.From == "" {
			return m, failed
		}
	}
	t.Fatal("the update does not end")
	return model.Update{}, nil
}

func TestAnUpdateIsInstalledFromAStorage(t *testing.T) {
	for _, c := range []struct {
		path      string
		restart   bool
		running   []string
		note      string
		restarted int32
	}{
		{"good", false, nil, "version 1.1 was installed at", 0}, // what is on the disk is told
		{"good", true, nil, "version 1.1 is installed, and this appliance restarts", 1},
		{"good", true, []string{"m1", "m2"}, "2 migrations run, so this appliance was not restarted", 0},
		{"bad", true, nil, "the update from local:bad was not installed", 0},
	} {
		u, restarted := updating(t, c.running...)
		if err := u.Start(t.Context(), model.UpdateRequest{Storage: "local", Path: c.path, Restart: c.restart}); err != nil {
			t.Fatal(err)
		}
		m, failed := u.ended(t)
		for limit := time.Now().Add(10 * time.Second); restarted.Load() != c.restarted && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		}
		if !strings.Contains(m.Note, c.note) || restarted.Load() != c.restarted || errors.Is(failed, update.ErrArchive) != (c.path == "bad") {
			t.Errorf("%s: %q, %v, restarted %d times; want %q", c.path, m.Note, failed, restarted.Load(), c.note)
		}
	}
}

func TestOneUpdateIsInstalledAtATime(t *testing.T) {
	u, _ := updating(t)
	more := make(chan struct{})
	u.machine = playedVersions{more}
	if err := u.Start(t.Context(), model.UpdateRequest{Storage: "local", Path: "good"}); err != nil {
		t.Fatal(err)
	}
	if err := u.Put(t.Context(), strings.NewReader("1.2"), false); !errors.Is(err, update.ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	if m, _, err := u.Read(t.Context()); err != nil || m.Installing.From != "local:good" || m.Running != "1.0" {
		t.Errorf("meanwhile: %+v, %v", m, err)
	}
	close(more)
	u.ended(t)
	if err := u.Put(t.Context(), strings.NewReader("1.2"), false); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestARestartCutsOffNoOtherUpdate that somebody has begun in its time of grace.
func TestARestartCutsOffNoOtherUpdate(t *testing.T) {
	u, restarted := updating(t)
	u.grace = 200 * time.Millisecond
	if err := u.Put(t.Context(), strings.NewReader("1.1"), true); err != nil {
		t.Fatal(err)
	}
	more := make(chan struct{})
	u.machine = playedVersions{more}
	if err := u.Start(t.Context(), model.UpdateRequest{Storage: "local", Path: "good"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * u.grace)
	close(more)
	u.ended(t)
	if n := restarted.Load(); n != 0 {
		t.Errorf("it restarted %d times", n)
	}
}

// TestARestartCutsOffNoMigration that somebody has begun in its time of grace.
func TestARestartCutsOffNoMigration(t *testing.T) {
	u, restarted := updating(t)
	u.grace = 200 * time.Millisecond
	var begun atomic.Bool
	u.running = func() []string {
		if begun.Load() {
			return []string{"web01"}
		}
		return nil
	}
	if err := u.Put(t.Context(), strings.NewReader("1.1"), true); err != nil {
		t.Fatal(err)
	}
	begun.Store(true)
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		m, _, err := u.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m.Note, "1 migrations run") {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("it says %q", m.Note)
		}
	}
	if n := restarted.Load(); n != 0 {
		t.Errorf("it restarted %d times", n)
	}
}

func TestAnUpdateThatIsNotThereIsRefusedAtOnce(t *testing.T) {
	u, _ := updating(t)
	for _, r := range []model.UpdateRequest{{}, {Storage: "none", Path: "x"}, {Storage: "local", Path: "none"}, {Storage: "local", Path: "good", URL: "https://mirror.example.org/x"}, {URL: "https://127.0.0.1:1/x"}} {
		if err := u.Start(t.Context(), r); err == nil {
			t.Errorf("%+v is taken", r)
		}
		if m, _ := u.ended(t); m.Installing.From != "" {
			t.Errorf("%+v goes on", r)
		}
	}
}
