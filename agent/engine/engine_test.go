package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

func digestOf(text string) model.Digest { return "sha256:" + digest(text) }

// config is that of an appliance by itself.
func config(t testing.TB, w Worker) Config {
	return Config{State: t.TempDir(), Name: "a1", Version: "test", Storages: []string{"from", "to"}, Capacity: 4, Lease: 10 * time.Second, Worker: w,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))}
}

func opened(t *testing.T, c Config) *Engine {
	t.Helper()
	e, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func spec() model.Spec {
	return model.Spec{Source: model.Source{Storage: "from", Path: "web01.vmx"}, Target: model.Target{Storage: "to"}}
}

func submitted(t *testing.T, e *Engine, id string, s model.Spec) Record {
	t.Helper()
	r, err := e.Submit(t.Context(), id, s, "web01", "ops", "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ends waits until a migration is in one of some states.
func ends(t *testing.T, e *Engine, id string, states ...model.State) model.Migration {
	t.Helper()
	return awaited(t, e, id, func(m model.Migration) bool { return slices.Contains(states, m.State) })
}

func awaited(t *testing.T, e *Engine, id string, is func(model.Migration) bool) model.Migration {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for {
		m, err := e.View(t.Context(), id)
		if err == nil && is(m) {
			return m
		}
		if time.Now().After(limit) {
			t.Fatalf("migration %s is %+v, %v", id, m, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func ordered(t *testing.T, e *Engine, id string, o Order) model.Operation {
	t.Helper()
	o.By = "ops"
	op, _, err := e.Order(t.Context(), id, o)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func TestAMigrationRunsToItsEnd(t *testing.T) {
	t.Parallel()
	w := quick(t)
	e := opened(t, config(t, w))
	r := submitted(t, e, "", spec())
	m := ends(t, e, r.ID, model.StateDone, model.StateFailed)
	if m.State != model.StateDone || m.Verdict != model.VerdictProved || w.count(r.ID) != 3 {
		t.Errorf("it ended %s, %s after %d steps", m.State, m.Verdict, w.count(r.ID))
	}
	if len(m.Operations) != 1 || !m.Operations[0].Done || m.Operations[0].Problem.Code != "" || m.Operations[0].ID != r.ID+".1" {
		t.Errorf("operations: %+v", m.Operations)
	}
	if len(m.Stages) != 1 || m.Stages[0].Reason != "3" {
		t.Errorf("stages: %+v", m.Stages)
	}
}

func TestTheSameRequestIsDoneOnce(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	first, err := e.Submit(t.Context(), "", spec(), "web01", "ops", "ops/k1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.Submit(t.Context(), "", spec(), "web01", "ops", "ops/k1")
	if err != nil || again.ID != first.ID {
		t.Errorf("again: %s, %v, want %s", again.ID, err, first.ID)
	}
	other := spec()
	other.Source.Path = "db01.vmx"
	if _, err := e.Submit(t.Context(), "", other, "web01", "ops", "ops/k1"); !errors.Is(err, ErrReused) {
		t.Errorf("the same key for another spec: %v", err)
	}
	if _, err := e.Submit(t.Context(), first.ID, spec(), "web01", "ops", "ops/k2"); !errors.Is(err, ErrExists) {
		t.Errorf("the same ID by another request: %v", err)
	}
	ends(t, e, first.ID, model.StateDone)
	verify := Order{Kind: model.OperationKindVerify, Key: "ops/k3"}
	a, b := ordered(t, e, first.ID, verify), ordered(t, e, first.ID, verify)
	if a.ID != b.ID {
		t.Errorf("one request made the operations %s and %s", a.ID, b.ID)
	}
	verify.Args.AgainstSource = true
	if _, _, err := e.Order(t.Context(), first.ID, verify); !errors.Is(err, ErrReused) {
		t.Errorf("the same key for another order: %v", err)
	}
}

func TestOneThatIsPausedGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 40, each: 10 * time.Millisecond}
	e := opened(t, config(t, w))
	r := submitted(t, e, "", spec())
	awaited(t, e, r.ID, func(model.Migration) bool { return w.count(r.ID) > 3 })
	op := ordered(t, e, r.ID, Order{Kind: model.OperationKindPause})
	m := ends(t, e, r.ID, model.StatePaused)
	at := w.count(r.ID)
	if i := slices.IndexFunc(m.Operations, func(o model.Operation) bool { return o.ID == op.ID }); !m.Operations[i].Done || m.Operations[0].Done || w.working() > 0 {
		t.Errorf("paused, operations are %+v, and %d tasks run", m.Operations, w.working())
	}
	time.Sleep(50 * time.Millisecond)
	if w.count(r.ID) != at {
		t.Error("it goes on while it is paused")
	}
	ordered(t, e, r.ID, Order{Kind: model.OperationKindResume})
	if ends(t, e, r.ID, model.StateDone); w.count(r.ID) != 40 || len(w.twice) > 0 {
		t.Errorf("%d steps, twice: %v", w.count(r.ID), w.twice)
	}
}

func TestOneThatIsGivenUpLeavesNothing(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 1000, each: 10 * time.Millisecond}
	e := opened(t, config(t, w))
	r := submitted(t, e, "", spec())
	awaited(t, e, r.ID, func(model.Migration) bool { return w.count(r.ID) > 1 })
	ordered(t, e, r.ID, Order{Kind: model.OperationKindCancel})
	m := ends(t, e, r.ID, model.StateCancelled)
	if w.count(r.ID) != 0 || m.Operations[0].Problem.Code != "cancelled" || m.Operations[1].Problem.Code != "" || !m.Operations[1].Done {
		t.Errorf("%d steps are left; operations: %+v", w.count(r.ID), m.Operations)
	}
	if _, _, err := e.Order(t.Context(), r.ID, Order{Kind: model.OperationKindRetry}); !errors.Is(err, ErrNotNow) {
		t.Errorf("retry: %v", err)
	}
	if err := e.Forget(t.Context(), r.ID, 0); err != nil {
		t.Error(err)
	}
	if _, err := e.View(t.Context(), r.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("forgotten, it reads %v", err)
	}
}

func TestOneThatFailedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.fail("web01", &Failure{model.Problem{Code: "blocked", Detail: "a concern forbids it"}})
	e := opened(t, config(t, w))
	submitted(t, e, "web01", spec())
	m := ends(t, e, "web01", model.StateFailed)
	if m.Problem.Code != "blocked" || m.Problem.Status != 422 || m.Operations[0].Problem.Code != "blocked" {
		t.Errorf("it ended with %+v", m)
	}
	w.fail("web01", nil)
	op := ordered(t, e, "web01", Order{Kind: model.OperationKindRetry})
	m = ends(t, e, "web01", model.StateDone)
	if last := m.Operations[1]; last.ID != op.ID || !last.Done || last.Problem.Code != "" || m.Problem.Code != "" {
		t.Errorf("tried again, it is %+v", m)
	}
}

func TestAWorkerThatIsLostAgainAndAgainIsAFailure(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.fail("web01", fmt.Errorf("%w: signal: killed", ErrCrashed))
	e := opened(t, config(t, w))
	submitted(t, e, "web01", spec())
	if m := ends(t, e, "web01", model.StateFailed); !strings.Contains(m.Problem.Detail, "signal: killed") {
		t.Errorf("it ended with %+v", m.Problem)
	}
	if r, _ := e.table.get("web01"); r.Epoch != maxCrashes {
		t.Errorf("it was tried %d times", r.Epoch)
	}
}

func TestAPlanWaitsForItsApproval(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.hold = true
	e := opened(t, config(t, w))
	s := spec()
	s.Approval = model.SpecApprovalRequired
	submitted(t, e, "web01", s)
	m := ends(t, e, "web01", model.StatePlanned)
	if _, _, err := e.Order(t.Context(), "web01", Order{Kind: model.OperationKindApprove, Digest: digestOf("another")}); !errors.Is(err, ErrChanged) {
		t.Errorf("another plan was approved: %v", err)
	}
	if m.Operations[0].Done {
		t.Error("the migration is done before its plan is approved")
	}
	ordered(t, e, "web01", Order{Kind: model.OperationKindApprove, Digest: m.Plan.Digest})
	if m = ends(t, e, "web01", model.StateDone); m.Plan.ApprovedBy != "ops" {
		t.Errorf("approved by %q", m.Plan.ApprovedBy)
	}
}

func TestAChangeIsRefusedByWhoHasNotSeenTheLast(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	r := submitted(t, e, "web01", spec())
	ends(t, e, "web01", model.StateDone)
	if _, _, err := e.Order(t.Context(), "web01", Order{Kind: model.OperationKindVerify, Revision: r.Revision}); !errors.Is(err, ErrChanged) {
		t.Errorf("Order = %v", err)
	}
	if err := e.Forget(t.Context(), "web01", r.Revision); !errors.Is(err, ErrChanged) {
		t.Errorf("Forget = %v", err)
	}
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
