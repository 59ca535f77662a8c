package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestARunIsHeldBeforeAStageAndGoesOn(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, noTest)
	if err != nil {
		t.Fatal(err)
	}
	held := errors.New("held")
	r.before = func(m *Migration, stage string) error {
		if stage == "fix" && m.Plan != nil {
			return held
		}
		return nil
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, held) {
		t.Fatalf("Go = %v", err)
	}
	if r.Stage("plan").State != Done || r.Stage("fix").State != Pending {
		t.Errorf("the stages are %+v", r.Stages)
	}
	if r, err = open(t, folder, source, noTest); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil || !r.Finished() {
		t.Errorf("gone on with, it ends with %v", err)
	}
}

func TestWhatAMigrationHasMadeIsDiscarded(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r := migrated(t, folder, source)
	if err := Discard(folder, "another"); !errors.Is(err, ErrRecord) {
		t.Errorf("another migration's: %v", err)
	}
	notes := filepath.Join(folder, "small-notes.txt")
	if err := os.WriteFile(notes, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"origin.json", "origin.json.new"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Discard(folder, r.ID, "origin.json"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 2 || entries[1].Name() != "small-notes.txt" {
		t.Errorf("left are %v, %v", entries, err)
	}
	if err := os.Remove(notes); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := Discard(folder, r.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}
