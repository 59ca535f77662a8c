package vsphere

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/vmwaretest"
)

// fault is something that goes wrong, and how a migration of a VM that runs ends then.
type fault struct {
	name   string
	vm     func(*vmwaretest.VM)
	begin  func(*testing.T, *lab)       // what is wrong from the start
	stage  string                       // before which something goes wrong
	does   func(*testing.T, *lab) error // it
	change change
	is     error    // that the migration ends with; nil: none
	says   []string // its text
	power  types.VirtualMachinePowerState
}

func storm(prefix string, times int) func(*testing.T, *lab) error {
	return func(_ *testing.T, l *lab) error {
		l.Storm(vmwaretest.Weather{Prefix: prefix, Status: http.StatusServiceUnavailable, Times: times})
		return nil
	}
}

// overcome are faults that a migration gets over.
var overcome = []fault{
	{name: "the session is killed", stage: "convert", does: func(t *testing.T, l *lab) error { l.KillSessions(t); return nil }},
	{name: "sessions are killed at every fourth request", begin: killing(4)},
	{name: "sessions are killed at every fifth request of a rehearsal", begin: killing(5), change: live, power: on},
	{name: "sessions are killed at every sixth request", begin: killing(6)},
	{name: "/sdk is overloaded", stage: "fetch", does: storm("/sdk", 2)},
	{name: "/folder is overloaded", stage: "convert", does: storm("/folder", 3)},
	{name: "the connection is cut in the middle of a disk", stage: "convert", does: func(_ *testing.T, l *lab) error {
		l.Storm(vmwaretest.Weather{Prefix: "/folder", Cut: 10_000, Times: 2})
		return nil
	}},
	{name: "a lease times out", begin: func(t *testing.T, l *lab) {
		l.by = []string{"nfc"}
		var once sync.Once
		l.OnRequest = func(r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/nfc") {
				once.Do(l.TimeOutLeases)
			}
			return false
		}
	}},
	{name: "an export is cut", begin: func(_ *testing.T, l *lab) {
		l.by = []string{"nfc"}
		l.Storm(vmwaretest.Weather{Prefix: "/nfc", Cut: 100_000, Times: 1})
	}},
	{name: "another task makes a snapshot fail once", begin: func(_ *testing.T, l *lab) {
		l.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: &types.TaskInProgress{}, Task: true})
	}, change: live, power: on},
	{name: "the guest does not shut down, and may be powered off", vm: func(vm *vmwaretest.VM) { vm.IgnoresShutdown = true },
		change: shutdown(300*time.Millisecond, true)},
	{name: "the guest has no tools, and may be powered off", vm: func(vm *vmwaretest.VM) { vm.NoTools = true },
		change: shutdown(time.Minute, true)},
	{name: "the host goes into maintenance, and hotadd gives way", begin: func(t *testing.T, l *lab) {
		l.ByHotadd(t)
		l.by = []string{"hotadd", "https"}
		l.Maintenance("DC0_C0_H0", true)
	}},
}

// killing has sessions end before each nth request.
func killing(n int64) func(*testing.T, *lab) {
	return func(t *testing.T, l *lab) { l.OnRequest = l.every(n, func() { l.KillSessions(t) }) }
}

func shutdown(wait time.Duration, force bool) change {
	return func(c *Config, _ *pipeline.Options, _ *pipeline.Config) {
		c.Power = vmware.PowerPolicy{Wait: wait, Force: force}
	}
}

// every does something before each nth request.
func (l *lab) every(n int64, do func()) func(*http.Request) bool {
	var seen atomic.Int64
	return func(*http.Request) bool {
		if seen.Add(1)%n == 0 {
			do()
		}
		return false
	}
}

func TestAMigrationGetsOverWhatPasses(t *testing.T) {
	for _, f := range overcome {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			l, r := f.lab(t)
			if err := r.Go(t.Context()); err != nil {
				t.Fatal(err)
			}
			if f.power == "" {
				f.power = off
			}
			l.wants(t, f.power)
			l.arrived(t, r)
		})
	}
}

// lab is one where a fault is at work.
func (f fault) lab(t *testing.T) (*lab, *pipeline.Run) {
	t.Helper()
	l := newLab(t, f.vm)
	l.fill(t)
	if f.begin != nil {
		f.begin(t, l)
	}
	changes := []change{f.change}
	if f.stage != "" {
		changes = append(changes, before(f.stage, func() error { return f.does(t, l) }))
	}
	return l, l.run(t, changes...)
}

// refusals are faults that end a migration, with what people are told.
var refusals = []fault{
	{name: "making a snapshot fails", change: live, begin: func(_ *testing.T, l *lab) {
		l.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: &types.SnapshotFault{}, Task: true})
	}, says: []string{"snapshot of wéb/01", "SnapshotFault"}, power: on},
	{name: "the guest does not shut down", vm: func(vm *vmwaretest.VM) { vm.IgnoresShutdown = true }, change: shutdown(300*time.Millisecond, false),
		is: vmware.ErrNeedsPowerOff, says: []string{"it did not shut down within 300ms", "allow that it is powered off"}, power: on},
	{name: "the guest has no tools", vm: func(vm *vmwaretest.VM) { vm.NoTools = true },
		is: vmware.ErrNeedsPowerOff, says: []string{"its VMware Tools do not run"}, power: on},
	{name: "the thumbprint is another", change: func(c *Config, _ *pipeline.Options, _ *pipeline.Config) {
		c.Server.Thumbprint = strings.Repeat("AB:", 31) + "AB"
	}, is: vmware.ErrConnect, says: []string{"thumbprint"}, power: on},
	{name: "the user lacks a privilege", change: live, begin: func(t *testing.T, l *lab) {
		l.reader(t)
	}, is: vmware.ErrPrivilege, says: []string{"snapshot of wéb/01", "VirtualMachine.State.CreateSnapshot on VirtualMachine:"}, power: on},
	{name: "sessions are killed at every request", begin: killing(1), is: vmware.ErrSession, says: sessionEnds, power: on},
	{name: "sessions are killed at every second request", begin: killing(2), is: vmware.ErrSession, says: sessionEnds, power: on},
	{name: "somebody merges the VM's snapshots", begin: func(t *testing.T, l *lab) { l.layered(t) }, stage: "convert",
		does: func(t *testing.T, l *lab) error { return l.merge(t.Context()) }, is: pipeline.ErrSourceChanged, says: []string{"the VM was moved", "disk 2000 was"}, power: on},
	{name: "somebody deletes the VM", stage: "convert", does: func(t *testing.T, l *lab) error { return l.delete(t.Context()) },
		is: pipeline.ErrSourceChanged, says: []string{"is not there any more"}},
	{name: "what is exported has no room", begin: func(t *testing.T, l *lab) {
		l.by, l.folder = []string{"nfc"}, filepath.Join(tiny(t, 4<<20), "small")
	}, says: []string{"take up to 41943040 bytes in ", " are free there: make room, ", "or use a transport that needs none"}, power: on},
}

var sessionEnds = []string{"127.0.0.1", "ended the log-in of", "somebody ends sessions there", "give the same command again"}

// reader has the migration log in as a user who may see everything and read disks.
func (l *lab) reader(t *testing.T) {
	t.Helper()
	l.AddUser("reader", "secret")
	l.Grant(t, "reader", l.Client.ServiceContent.RootFolder, true, "Datastore.Browse", "Datastore.FileManagement")
	l.user, l.password = "reader", "secret"
}

func (l *lab) merge(ctx context.Context) error {
	task, err := object.NewVirtualMachine(l.Client, l.vm.Ref).RemoveAllSnapshot(ctx, nil)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

func (l *lab) delete(ctx context.Context) error {
	task, err := object.NewVirtualMachine(l.Client, l.vm.Ref).Destroy(ctx)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

func TestAMigrationEndsWithWhatToDo(t *testing.T) {
	for _, f := range refusals {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			l, r := f.lab(t)
			err := r.Go(t.Context())
			if err == nil || f.is != nil && !errors.Is(err, f.is) {
				t.Errorf("Go = %v, want %v", err, f.is)
			}
			for _, want := range f.says {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("Go = %v, want %q", err, want)
				}
			}
			if f.power == "" {
				return // it is gone
			}
			l.wants(t, f.power)
			if owes, err := Owes(l.folder); err != nil || owes {
				t.Errorf("the folder owes %v, %v", owes, err)
			}
		})
	}
}

// TestAWrongPasswordIsTriedOnce: also by a command that goes on with a migration whose VM
// is to be given back.
func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	l := newLab(t, nil)
	var tried atomic.Int64
	l.OnRequest = func(r *http.Request) bool {
		text, err := io.ReadAll(r.Body)
		if bytes.Contains(text, []byte("<Login ")) {
			tried.Add(1)
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
		return err != nil
	}
	ctx, stop := context.WithCancel(t.Context())
	r := l.run(t, before("convert", func() error { stop(); return context.Cause(ctx) }))
	if err := r.Go(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if tried.Swap(0) != 1 {
		t.Error("logging in is not seen")
	}
	l.password = "wrong"
	again := l.run(t)
	err := again.Go(t.Context())
	if !errors.Is(err, vmware.ErrLogin) || !errors.Is(err, source.ErrBadInput) || !strings.Contains(err.Error(), "it is not tried again") || strings.Contains(err.Error(), "migrate again") || tried.Load() != 1 {
		t.Errorf("Go = %v after %d tries", err, tried.Load())
	}
	l.wants(t, off)
}

// TestAHostInMaintenanceStartsNoVM: what could not be taken back is taken back later.
func TestAHostInMaintenanceStartsNoVM(t *testing.T) {
	l := newLab(t, nil)
	failing := errors.New("the target is on fire")
	r := l.run(t, before("convert", func() error { l.Maintenance("DC0_C0_H0", true); return failing }))
	err := r.Go(t.Context())
	if !errors.Is(err, failing) || !errors.Is(err, vmware.ErrMaintenance) || !strings.Contains(err.Error(), "hyper2kvm vsphere restore "+l.folder) {
		t.Errorf("Go = %v", err)
	}
	l.wants(t, off)
	l.Maintenance("DC0_C0_H0", false)
	if _, err := Restore(t.Context(), l.config()); err != nil {
		t.Error(err)
	}
	l.wants(t, on)
}

// TestAServerThatDoesNotTellIsNoVMThatChanged: while a disk is read the server is asked
// whether the VM is still at rest.
func TestAServerThatDoesNotTellIsNoVMThatChanged(t *testing.T) {
	was := guardEvery
	guardEvery = 50 * time.Millisecond
	defer func() { guardEvery = was }()
	l := newLab(t, nil)
	l.fill(t)
	var refused atomic.Int64
	r := l.run(t, before("convert", func() error {
		l.Storm(vmwaretest.Weather{Prefix: "/folder", Delay: 100 * time.Millisecond, Times: 20})
		l.Fail(vmwaretest.Trouble{Method: "RetrievePropertiesEx", Fault: &types.SystemError{}, Times: 3, When: func(types.AnyType) bool { refused.Add(1); return true }})
		return nil
	}))
	if err := r.Go(t.Context()); err != nil || refused.Load() < 3 {
		t.Fatalf("Go = %v, refused %d times", err, refused.Load())
	}
	l.wants(t, off)
	l.arrived(t, r)
}
