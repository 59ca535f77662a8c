package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/hooks"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/webhook"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

func TestMain(m *testing.M) {
	if status, played := Serve(nil); played {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// bench is an engine with a worker, and a storage with a small guest.
type bench struct {
	*engine.Engine
	from, to string
	config   engine.Config
	worker   *Worker
	webhooks map[string]webhook.Target
}

func (b *bench) webhook(name string) (webhook.Target, error) {
	if w, ok := b.webhooks[name]; ok {
		return w, nil
	}
	return webhook.Target{}, errors.New("there is no webhook " + name)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	guesttest.Slow(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon"})...)
	b := &bench{from: t.TempDir(), to: t.TempDir()}
	if err := guesttest.Small(t.Context(), filepath.Join(b.from, "small.raw"), guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	groups, err := OpenGroups(fmt.Sprintf("test-%d", os.Getpid()), log)
	if err != nil {
		t.Fatal(err)
	}
	b.worker = &Worker{Version: "test", Groups: groups, Log: log, Hooks: hooks.Runner{Folder: t.TempDir(), Webhooks: b.webhook},
		Storages: storage.List{{Name: "from", Path: b.from, Use: model.StorageUseSource}, {Name: "to", Path: b.to, Use: model.StorageUseTarget}},
		Secret: func(_ context.Context, name string) (guest.Secret, error) {
			return nil, errors.New("there is no secret " + name)
		},
		Keep: func(ctx context.Context, id string, files []engine.File) error { return b.Engine.Keep(ctx, id, files) }}
	b.config = engine.Config{State: t.TempDir(), Name: "a1", Version: "test", Storages: []string{"from", "to"}, Capacity: 2, Lease: 5 * time.Second, Worker: b.worker, Log: log}
	b.open(t)
	return b
}

func (b *bench) open(t *testing.T) {
	t.Helper()
	e, err := engine.Open(t.Context(), b.config)
	if err != nil {
		t.Fatal(err)
	}
	b.Engine = e
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

func small() model.Spec {
	return model.Spec{Source: model.Source{Storage: "from", Path: "small.raw"}, Target: model.Target{Storage: "to"}, Engine: model.SpecEngineDirect, Test: model.Test{Skip: "not part of this"}}
}

func (b *bench) submit(t *testing.T, id string, s model.Spec) {
	t.Helper()
	if _, err := b.Submit(t.Context(), id, s, Name(s), "ops", ""); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) ends(t *testing.T, id string, states ...model.State) model.Migration {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		m, err := b.View(t.Context(), id)
		if err == nil && slices.Contains(states, m.State) {
			return m
		}
		if time.Now().After(limit) {
			t.Fatalf("migration %s is %+v, %v", id, m, err)
		}
	}
}

func (b *bench) order(t *testing.T, id string, o engine.Order) {
	t.Helper()
	o.By = "ops"
	if _, _, err := b.Order(t.Context(), id, o); err != nil {
		t.Fatal(err)
	}
}

func TestAGuestIsMigratedVerifiedAndUndone(t *testing.T) {
	b := newBench(t)
	b.submit(t, "small", small())
	m := b.ends(t, "small", model.StateDone, model.StateFailed)
	if m.State != model.StateDone || m.Verdict != model.VerdictUntested || m.Folder.Path != "small" || len(m.Stages) != 7 || m.Plan.Changes == 0 || m.Plan.Digest == "" {
		t.Fatalf("it ended as %+v", m)
	}
	if _, err := os.Stat(filepath.Join(b.to, "small", "small-disk0.qcow2")); err != nil {
		t.Error(err)
	}
	kept, err := b.Kept(t.Context(), "small")
	if err != nil || !slices.ContainsFunc(kept, func(f model.File) bool { return f.Path == "small-report.md" && f.Size > 0 }) ||
		slices.ContainsFunc(kept, func(f model.File) bool { return strings.HasSuffix(f.Path, ".qcow2") }) {
		t.Errorf("kept are %+v, %v", kept, err)
	}
	b.order(t, "small", engine.Order{Kind: model.OperationKindVerify, Args: engine.Args{AgainstSource: true}})
	m = b.ends(t, "small", model.StateDone, model.StateFailed)
	if last := m.Operations[len(m.Operations)-1]; !last.Done || len(last.Verified) != 2 || last.Problem.Code != "" {
		t.Errorf("verified: %+v", last)
	}
	b.order(t, "small", engine.Order{Kind: model.OperationKindUndo})
	if m = b.ends(t, "small", model.StateDone, model.StateFailed); m.Verdict != model.VerdictUndone {
		t.Errorf("undone, it is %+v", m)
	}
}

func TestAPlanIsShownBeforeAnythingIsDone(t *testing.T) {
	b := newBench(t)
	s := small()
	s.Approval = model.SpecApprovalRequired
	b.submit(t, "small", s)
	m := b.ends(t, "small", model.StatePlanned, model.StateFailed, model.StateDone)
	if m.State != model.StatePlanned || m.Plan.Changes == 0 || m.Stages[4].State != model.StageStatePending {
		t.Fatalf("it waits as %+v", m)
	}
	b.order(t, "small", engine.Order{Kind: model.OperationKindApprove, Digest: m.Plan.Digest})
	if m = b.ends(t, "small", model.StateDone, model.StateFailed); m.State != model.StateDone || m.Plan.ApprovedBy != "ops" {
		t.Errorf("approved, it ended as %+v", m)
	}
}

func TestOneThatIsGivenUpLeavesItsTargetEmpty(t *testing.T) {
	b := newBench(t)
	s := small()
	s.Approval = model.SpecApprovalRequired
	b.submit(t, "small", s)
	b.ends(t, "small", model.StatePlanned)
	b.order(t, "small", engine.Order{Kind: model.OperationKindCancel})
	b.ends(t, "small", model.StateCancelled)
	if left, err := os.ReadDir(b.to); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestWhatCannotBeDoneIsOneProblem(t *testing.T) {
	b := newBench(t)
	if err := os.WriteFile(filepath.Join(b.from, "text.raw"), []byte("no disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for id, c := range map[string]struct {
		change     func(*model.Spec)
		code, text string
	}{
		"none":    {func(s *model.Spec) { s.Source.Path = "none.vmx" }, "bad-input", "none.vmx: no such file"},
		"nothing": {func(s *model.Spec) { s.Source.Path = "text.raw" }, "bad-input", "the disks hold no file systems"},
		"secret":  {func(s *model.Spec) { s.Keys = []model.Key{{Device: "all", Secret: "gone"}} }, "no-such-secret", "no secret gone"},
		"limit":   {func(s *model.Spec) { s.Limits = []string{"fast"} }, "bad-input", "fast"},
	} {
		s := small()
		s.Name = id
		c.change(&s)
		b.submit(t, id, s)
		if m := b.ends(t, id, model.StateFailed, model.StateDone); m.State != model.StateFailed || m.Problem.Code != c.code || !strings.Contains(m.Problem.Detail, c.text) {
			t.Errorf("%s: %s, %+v", id, m.State, m.Problem)
		}
	}
}
