package serve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/agent/config"
)

// TestAnEarlierVersionTellsWhyItCannotReadTheState, as after an update that has changed it and
// was not healthy then: it leaves the state as it is, and its last words for the screen.
func TestAnEarlierVersionTellsWhyItCannotReadTheState(t *testing.T) {
	folder := t.TempDir()
	words := config.Ended(filepath.Join(folder, "agent.sock"))
	if err := os.WriteFile(words, []byte("of the one before"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := started(t, folder, "")
	if _, err := os.Stat(words); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ready, it leaves what the one before has left: %v", err)
	}
	const later = `{"format":2,"data":{"people":[]}}`
	if err := a.running.engine.States().Create(t.Context(), "access", []byte(later)); err != nil {
		t.Fatal(err)
	}
	a.stop(t)
	if _, err := os.Stat(words); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("told to end, it leaves why: %v", err)
	}

	s, err := config.Load(filepath.Join(folder, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "the record access was written by another version (format 2, and this one knows 1): start that version, if the boot menu has it, or update this appliance"
	if err := newAgent(s, "test", a.running.log).run(t.Context(), a.out); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it ends with %v", err)
	}
	if text, err := os.ReadFile(words); err != nil || !strings.HasSuffix(string(text), want+"\n") || strings.Count(string(text), "\n") != 1 {
		t.Errorf("it leaves %q, %v", text, err)
	}
	b := newAgent(s, "test", a.running.log)
	if err := b.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, _, err := b.engine.States().Read(t.Context(), "access"); err != nil || string(text) != later {
		t.Errorf("the record is now %s, %v", text, err)
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
}
