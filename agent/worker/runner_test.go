package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// runners are the processes of runners that this process started.
func runners(t *testing.T) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || !strings.HasPrefix(string(text), runnerName+"\x00") {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(f), "stat"))
		var pid, parent int
		var name, state string // Source: proc_pid_stat(5)
		if _, failed := fmt.Sscan(string(stat), &pid, &name, &state, &parent); err == nil && failed == nil && parent == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestKilledAtAnyMoment kills the runner at moments all over a migration.
func TestKilledAtAnyMoment(t *testing.T) {
	b := newBench(t)
	kills := 0
	for i := range 8 {
		id := fmt.Sprintf("m%d", i)
		s := small()
		s.Name = id
		b.submit(t, id, s)
		time.Sleep(time.Duration(20+i*90) * time.Millisecond)
		for _, pid := range runners(t) {
			if unix.Kill(pid, unix.SIGKILL) == nil {
				kills++
			}
		}
		if m := b.ends(t, id, model.StateDone, model.StateFailed); m.State != model.StateDone || len(m.Stages) != 7 || m.Stages[6].State != model.StageStateSkipped {
			t.Errorf("killed, %s ended as %+v", id, m)
		}
	}
	if kills < 4 {
		t.Errorf("only %d were killed", kills)
	}
	if left := runners(t); len(left) > 0 {
		t.Errorf("runners are left: %v", left)
	}
}

// TestARunnerWithoutALeaseEnds: one whose agent does not tell it that it may go on
// ends itself.
func TestARunnerWithoutALeaseEnds(t *testing.T) {
	b := newBench(t)
	group, err := b.worker.Groups.enter("leaseless")
	if err != nil {
		t.Fatal(err)
	}
	o := order{Task: engine.Migrate, ID: "leaseless", Name: "leaseless", Folder: filepath.Join(b.to, "leaseless"), Lease: 200 * time.Millisecond, Group: group.path}
	o.Options, err = b.worker.options(small())
	if err != nil {
		t.Fatal(err)
	}
	r, err := startRunner(t.Context(), group, o)
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan report, 100)
	go r.listen(reports)
	select {
	case <-r.server.Done():
	case <-time.After(20 * time.Second):
		t.Error("it goes on without a lease")
	}
	if err := errors.Join(r.close(), group.leave()); err != nil {
		t.Error(err)
	}
}

func TestAnEngineThatIsClosedStopsItsRunnersAndGoesOn(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		id := fmt.Sprintf("m%d", i)
		s := small()
		s.Name = id
		b.submit(t, id, s)
		time.Sleep(time.Duration(100+i*200) * time.Millisecond)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if left := runners(t); len(left) > 0 {
			t.Errorf("runners are left: %v", left)
		}
		b.open(t)
		if m := b.ends(t, id, model.StateDone, model.StateFailed); m.State != model.StateDone {
			t.Errorf("%s ended as %+v", id, m)
		}
	}
}
