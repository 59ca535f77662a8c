package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/storage"
	"hyper2kvm/pipeline"
)

// clerk is a worker that takes jobs and runs none.
func clerk(t *testing.T) *Worker {
	t.Helper()
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "small.raw"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return &Worker{Scratch: filepath.Join(t.TempDir(), "looks"),
		Storages: storage.List{{Name: "from", Path: from, Use: model.StorageUseSource}, {Name: "to", Path: t.TempDir(), Use: model.StorageUseTarget}}}
}

func job(s model.Spec) engine.Job {
	return engine.Job{Record: engine.Record{Migration: model.Migration{ID: "m1", Spec: s}, Task: engine.Migrate}, Tell: func(engine.Update) {}, Lease: func() (t time.Time) { return t }}
}

func TestAGuestIsTestedAsItIs(t *testing.T) {
	w, s := clerk(t), small()
	s.Mode, s.Test = model.ModeTest, model.Test{Hardware: model.TestHardwareVmware}
	o, err := w.order(t.Context(), job(s))
	const asIs = "the guest is tested as it is"
	if diff := cmp.Diff(map[string]string{"plan": asIs, "fix": asIs, "convert": asIs}, o.Options.Skip); diff != "" || err != nil || o.Options.Hardware != pipeline.OnVMware || filepath.Base(o.Folder) != "small-test" {
		t.Errorf("it is asked for as %+v in %s, %v: %s", o.Options, o.Folder, err, diff)
	}
	s.Test.Hardware = ""
	if o, err := w.order(t.Context(), job(s)); err != nil || o.Options.Hardware == pipeline.OnVMware {
		t.Errorf("on KVM's hardware: %+v, %v", o.Options, err)
	}
}

func TestWhatLooksWithoutATargetWorksInScratch(t *testing.T) {
	w, s := clerk(t), small()
	s.Mode, s.Target = model.ModePlan, model.Target{}
	j := job(s)
	j.Tell = func(u engine.Update) { t.Errorf("told is %+v", u) }
	if o, err := w.order(t.Context(), j); err != nil || o.Folder != filepath.Join(w.Scratch, "m1") || o.Options.Until != "plan" {
		t.Errorf("it works in %s, %v", o.Folder, err)
	}
	s.Mode = model.ModeMigrate
	if _, err := w.order(t.Context(), job(s)); err == nil {
		t.Error("a migration without a target is taken")
	}
}

func TestTheGivenPlanIsTheRunners(t *testing.T) {
	w, j := clerk(t), job(small())
	j.GivenPlan = "sha256:x"
	plan, failed := `{"changes":[{"path":"/etc/fstab"}]}`, error(nil)
	w.Plan = func(context.Context, engine.Record) ([]byte, error) { return []byte(plan), failed }
	if o, err := w.order(t.Context(), j); err != nil || len(o.Options.Plan.Changes) != 1 {
		t.Errorf("it is asked for as %+v, %v", o.Options, err)
	}
	code := func(want string) {
		t.Helper()
		_, err := w.order(t.Context(), j)
		if f, ok := errors.AsType[*engine.Failure](err); !ok || f.Code != want {
			t.Errorf("it is refused as %v, want %s", err, want)
		}
	}
	plan = "{}"
	code("bad-input")
	failed = fmt.Errorf("gone: %w", fs.ErrNotExist)
	code("no-plan")
}
