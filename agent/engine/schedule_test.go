package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
)

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

// TestAVMIsTakenByWhoHasItsServer: it may be known to some appliances alone, and bears as
// many migrations at once as a limit says.
func TestAVMIsTakenByWhoHasItsServer(t *testing.T) {
	t.Parallel()
	s := spec()
	s.Source = model.Source{Vsphere: model.SourceVM{Server: "vc1", VM: "web01"}}
	wide := s
	wide.Target.Storages = map[string]string{"fast": "ssd", "slow": "to", "lün": "ssd"}
	if got := Uses(wide); !slices.Equal(got, []string{"storage:ssd", "storage:to", "vsphere:vc1"}) {
		t.Errorf("with a map of storages it uses %q", got)
	}
	if got := Uses(s); !slices.Equal(got, []string{"storage:to", "vsphere:vc1"}) {
		t.Errorf("it uses %q", got)
	}
	without := opened(t, config(t, quick(t)))
	submitted(t, without, "web01", s)
	if m, err := without.View(t.Context(), "web01"); err != nil || !strings.Contains(m.Why, "reaches its storages: to; and has in its settings the vSphere server vc1") {
		t.Errorf("without its server it waits for %q, %v", m.Why, err)
	}
	c := config(t, quick(t))
	c.Servers = []string{"vc1"}
	with := opened(t, c)
	submitted(t, with, "web01", s)
	ends(t, with, "web01", model.StateDone)
	if a := with.Appliances(); len(a) != 1 || !slices.Equal(a[0].Servers, []string{"vc1"}) || !slices.Equal(with.Servers(), []string{"vc1"}) {
		t.Errorf("the appliances are %+v", a)
	}
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

// What a scheduler takes at the very moment of the end is waited for, and later it takes
// nothing.
func TestNothingIsTakenUnseenWhenItCloses(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, &stepper{folder: t.TempDir()}))
	if !e.hold("web01") {
		t.Fatal("an open engine gave no place")
	}
	var dropped atomic.Bool
	time.AfterFunc(100*time.Millisecond, func() {
		dropped.Store(true)
		e.drop("web01")
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if !dropped.Load() {
		t.Error("it closed while a migration was being taken")
	}
	if e.hold("db01") {
		t.Error("a closed engine gave a place")
	}
}
