package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
)

// Whether the direct engine works here is found out once, while FETCH and FLATTEN run.
func TestTheEngineIsProbedBesideWhatComesBeforeIt(t *testing.T) {
	needTools(t)
	source := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(source, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	probed := make(chan bool)
	tell := func(e Event) {
		if e.Stage != "fetch" || e.State != Running {
			return
		}
		select {
		case <-probed:
		case <-time.After(time.Minute):
			t.Error("the probe has not begun when FETCH begins")
		}
	}
	r, err := Open(Config{Folder: filepath.Join(t.TempDir(), "m"), Version: "test", Log: slog.New(slog.DiscardHandler), Tell: tell}, Options{Source: source, Shape: disk.Shape{Format: disk.QCOW2}, Engine: Direct, Until: "inspect"})
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("no loop devices")
	r.noDirect = func(context.Context) error { close(probed); return why } // a second one would panic
	if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, why) || !errors.Is(err, ErrEngine) {
		t.Errorf("Go = %v, want %v", err, why)
	}
}
