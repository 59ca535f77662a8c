package vmware

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
)

// follower collects what a watch tells.
type follower struct {
	t       *testing.T
	changes chan Change
}

func follow(t *testing.T, s *Session) *follower {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	f := &follower{t, make(chan Change)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c, err := range s.Watch(ctx) {
			if err != nil {
				t.Errorf("watch: %v", err)
				return
			}
			select {
			case f.changes <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// next is the next change.
func (f *follower) next() Change {
	f.t.Helper()
	select {
	case c := <-f.changes:
		f.t.Logf("%s %s %s %s", c.Kind, c.VM.Ref, c.VM.Name, c.VM.Power)
		return c
	case <-time.After(30 * time.Second):
		f.t.Fatal("nothing happens")
	}
	return Change{}
}

// until waits for a change.
func (f *follower) until(kind ChangeKind, holds func(VM) bool) VM {
	f.t.Helper()
	for {
		if c := f.next(); c.Kind == kind && holds(c.VM) {
			return c.VM
		}
	}
}

// done waits for a task.
func done(t *testing.T, task *object.Task, err error) {
	t.Helper()
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWatchTellsWhatBecomesOfVMs(t *testing.T) {
	l := serve(t, simulator.VPX())
	f := follow(t, l.Session)
	var names []string
	for range 4 {
		names = append(names, f.until(Added, func(VM) bool { return true }).Name)
	}
	if want := []string{"DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1", "DC0_H0_VM0", "DC0_H0_VM1"}; !slices.Equal(names, want) {
		t.Errorf("there are %q, want %q", names, want)
	}
	admin := l.admin(t)
	vm := object.NewVirtualMachine(admin, l.vm(t, "DC0_H0_VM0").Self)
	task, err := vm.PowerOff(t.Context())
	done(t, task, err)
	if got := f.until(Changed, func(vm VM) bool { return vm.Power == Off }); got.Name != "DC0_H0_VM0" || len(got.Disks) == 0 || got.Host == "" {
		t.Errorf("changed: %+v", got)
	}
	task, err = vm.CreateSnapshot(t.Context(), "first", "", false, false)
	done(t, task, err)
	f.until(Changed, func(vm VM) bool { return len(vm.Snapshots) == 1 })
	task, err = vm.Destroy(t.Context())
	done(t, task, err)
	f.until(Removed, func(gone VM) bool { return gone.Ref == vm.Reference().Value })
}

// The log-in ends, with all that the watch had made at the server, while a VM changes
// and another one goes.
func TestAWatchGoesOnAfterTheLogInEnded(t *testing.T) {
	l := serve(t, simulator.VPX())
	f := follow(t, l.Session)
	f.until(Added, func(vm VM) bool { return vm.Name == "DC0_H0_VM1" })
	admin := l.admin(t)
	l.endSessions(t)
	task, err := object.NewVirtualMachine(admin, l.vm(t, "DC0_H0_VM0").Self).PowerOff(t.Context())
	done(t, task, err)
	gone := object.NewVirtualMachine(admin, l.vm(t, "DC0_C0_RP0_VM0").Self)
	task, err = gone.PowerOff(t.Context())
	done(t, task, err)
	task, err = gone.Destroy(t.Context())
	done(t, task, err)
	removed, changed := false, false
	for !removed || !changed {
		c := f.next()
		removed = removed || c.Kind == Removed && c.VM.Ref == gone.Reference().Value
		changed = changed || c.Kind == Changed && c.VM.Name == "DC0_H0_VM0" && c.VM.Power == Off
	}
}

// admin asks the simulator itself, past the network.
func (l *lab) admin(t *testing.T) *vim25.Client {
	t.Helper()
	client, err := vim25.NewClient(t.Context(), l.model.Service)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
