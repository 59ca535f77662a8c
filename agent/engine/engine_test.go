package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

// stepper is a worker whose tasks take steps, which it keeps in a file as a migration
// keeps its record: one that was stopped goes on where it was.
type stepper struct {
	folder string
	steps  int
	each   time.Duration

	mu      sync.Mutex
	at      map[string]int // that work now
	twice   []string       // that two worked on at a time
	failing map[string]error
	hold    bool
}

func (s *stepper) Work(ctx context.Context, j Job) (Result, error) {
	s.enter(j.ID)
	defer s.leave(j.ID)
	if err := s.fails(j.ID); err != nil {
		return Result{}, err
	}
	if j.Task == Clear {
		return Result{}, os.RemoveAll(filepath.Join(s.folder, j.ID))
	}
	if s.hold && j.Plan.Digest == "" {
		j.Tell(Update{Plan: model.PlanSummary{Digest: digestOf("plan"), Changes: 3}})
		return Result{Held: true}, nil
	}
	for {
		n := s.count(j.ID)
		if n >= s.steps {
			return Result{Verdict: model.VerdictProved}, nil
		}
		select {
		case <-ctx.Done():
			return Result{}, context.Cause(ctx)
		case <-time.After(s.each):
		}
		if time.Now().After(j.Lease()) {
			return Result{}, ErrLease
		}
		at := filepath.Join(s.folder, j.ID)
		err := os.WriteFile(at+".new", []byte(strings.Repeat(".", n+1)), 0o600)
		if err := errors.Join(err, os.Rename(at+".new", at)); err != nil { // who reads it finds a whole one
			return Result{}, err
		}
		j.Tell(Update{Text: fmt.Sprintf("step %d", n+1), Stages: []model.Stage{{Name: model.StageNameFetch, State: model.StageStateRunning, Reason: fmt.Sprint(n + 1)}}})
	}
}

func (s *stepper) count(id string) int {
	text, _ := os.ReadFile(filepath.Join(s.folder, id)) // none before the first step
	return len(text)
}

func (s *stepper) enter(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]int{}
	}
	if s.at[id]++; s.at[id] > 1 {
		s.twice = append(s.twice, id)
	}
}

func (s *stepper) leave(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[id]--
}

func (s *stepper) working() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.at {
		n += c
	}
	return n
}

func (s *stepper) fails(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing[id]
}

func (s *stepper) fail(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing == nil {
		s.failing = map[string]error{}
	}
	s.failing[id] = err
}

func digestOf(text string) model.Digest { return "sha256:" + digest(text) }

// quick is a worker that takes few milliseconds.
func quick(t testing.TB) *stepper {
	return &stepper{folder: t.TempDir(), steps: 3, each: time.Millisecond}
}

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
	return model.Spec{Source: model.Place{Storage: "from", Path: "web01.vmx"}, Target: model.Target{Storage: "to"}}
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

func TestOneComesAfterAnother(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 5, each: 20 * time.Millisecond}
	e := opened(t, config(t, w))
	after := spec()
	after.Schedule.After = []string{"db01"}
	submitted(t, e, "web01", after)
	if m, err := e.View(t.Context(), "web01"); err != nil || !strings.Contains(m.Why, "comes after db01, which is not there") {
		t.Errorf("it waits for %q, %v", m.Why, err)
	}
	submitted(t, e, "db01", spec())
	web := ends(t, e, "web01", model.StateRunning)
	if db, err := e.View(t.Context(), "db01"); err != nil || db.State != model.StateDone || web.State != model.StateRunning {
		t.Errorf("db01 is %s while web01 runs, %v", db.State, err)
	}
}

func TestLimitsHold(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 10, each: 5 * time.Millisecond}
	c := config(t, w)
	c.Limits = map[string]int{"storage:from": 2}
	e := opened(t, c)
	for i := range 6 {
		submitted(t, e, fmt.Sprintf("m%d", i), spec())
	}
	most := 0
	awaited(t, e, "m5", func(model.Migration) bool {
		most = max(most, w.working())
		return len(e.List(func(m *model.Migration) bool { return m.State == model.StateDone }, "", 10).Items) == 6
	})
	if most != 2 {
		t.Errorf("%d ran at once", most)
	}
}

func TestTheMostImportantGoesFirst(t *testing.T) {
	t.Parallel()
	c := config(t, &stepper{folder: t.TempDir(), steps: 3, each: 5 * time.Millisecond})
	c.Capacity = 0
	e := opened(t, c)
	for i, priority := range []int{0, 5, -5, 10} {
		s := spec()
		s.Schedule.Priority = priority
		submitted(t, e, fmt.Sprintf("m%d", i), s)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	c.Capacity = 1
	again, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var order []string
	for _, id := range []string{"m0", "m1", "m2", "m3"} {
		ends(t, again, id, model.StateDone)
		order = append(order, id)
	}
	slices.SortFunc(order, func(a, b string) int {
		x, _ := again.table.get(a)
		y, _ := again.table.get(b)
		return x.Updated.Compare(y.Updated)
	})
	if got := strings.Join(order, " "); got != "m3 m1 m0 m2" {
		t.Errorf("they ended in the order %s", got)
	}
}

func TestOneThatIsTooLateFails(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	c.Storages = nil
	e := opened(t, c)
	s := spec()
	s.Schedule.End = time.Now().Add(-time.Minute)
	submitted(t, e, "web01", s)
	if m := ends(t, e, "web01", model.StateFailed); m.Problem.Code != "too-late" {
		t.Errorf("it ended with %+v", m.Problem)
	}
}

func TestWhatNobodyReachesSaysSo(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	s := spec()
	s.Target.Storage = "elsewhere"
	submitted(t, e, "web01", s)
	if m, err := e.View(t.Context(), "web01"); err != nil || !strings.Contains(m.Why, "reaches its storages: elsewhere, from") {
		t.Errorf("it waits for %q, %v", m.Why, err)
	}
}

// TestAnEngineThatIsClosedBeginsNothing: what it has stopped waits for a turn, and the
// engine that closes does not take it. One that is slow to stop gives it the time to.
func TestAnEngineThatIsClosedBeginsNothing(t *testing.T) {
	e, err := Open(t.Context(), config(t, workerFunc(func(ctx context.Context, j Job) (Result, error) {
		<-ctx.Done()
		if j.ID == "slow" {
			time.Sleep(time.Second)
		}
		return Result{}, context.Cause(ctx)
	})))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"slow", "quick"} {
		submitted(t, e, id, spec())
		ends(t, e, id, model.StateRunning)
	}
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it has begun again what it stopped, and does not end")
	}
}

// workerFunc is a worker that is one function.
type workerFunc func(context.Context, Job) (Result, error)

func (f workerFunc) Work(ctx context.Context, j Job) (Result, error) { return f(ctx, j) }

func TestAnEngineThatIsOpenedAgainGoesOn(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 30, each: 10 * time.Millisecond}
	c := config(t, w)
	e, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrBusy) {
		t.Errorf("a second engine in the same folder: %v", err)
	}
	submitted(t, e, "web01", spec())
	awaited(t, e, "web01", func(model.Migration) bool { return w.count("web01") > 3 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if w.working() > 0 {
		t.Error("a task goes on after Close")
	}
	e = opened(t, c)
	ends(t, e, "web01", model.StateDone)
	if r, _ := e.table.get("web01"); r.Epoch != 2 || w.count("web01") != 30 || len(w.twice) > 0 {
		t.Errorf("epoch %d, %d steps, twice: %v", r.Epoch, w.count("web01"), w.twice)
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

// windows are one that is open now and one that is not.
func windows() (opened, closed string) {
	now := time.Now()
	day := func(d time.Duration) string { return strings.ToLower(now.Add(d).Format("Mon")) }
	return day(-24*time.Hour) + "," + day(0) + "," + day(24*time.Hour), day(3 * 24 * time.Hour)
}

func TestWindowsAreKept(t *testing.T) {
	t.Parallel()
	w := &stepper{folder: t.TempDir(), steps: 30, each: 10 * time.Millisecond}
	e := opened(t, config(t, w))
	open, closed := windows()
	s := spec()
	s.Schedule.Windows = []string{closed}
	submitted(t, e, "web01", s)
	if m, err := e.View(t.Context(), "web01"); err != nil || !strings.Contains(m.Why, "outside of its windows; the next opens 20") {
		t.Errorf("it waits for %q, %v", m.Why, err)
	}
	change := func(windows ...string) {
		if _, err := e.Reschedule(t.Context(), "web01", model.Schedule{Windows: windows, WhenClosed: model.ScheduleWhenClosedPause}, 0); err != nil {
			t.Fatal(err)
		}
	}
	change(open)
	awaited(t, e, "web01", func(model.Migration) bool { return w.count("web01") > 2 })
	if _, err := e.Reschedule(t.Context(), "web01", model.Schedule{Lockouts: []string{open}, WhenClosed: model.ScheduleWhenClosedPause}, 0); err != nil {
		t.Fatal(err)
	}
	m := ends(t, e, "web01", model.StateQueued)
	if at := w.count("web01"); at >= 30 || w.working() > 0 || m.Why == "" {
		t.Errorf("when its window has closed it is at step %d, %q", at, m.Why)
	}
	change(open)
	if ends(t, e, "web01", model.StateDone); w.count("web01") != 30 {
		t.Errorf("%d steps", w.count("web01"))
	}
}
