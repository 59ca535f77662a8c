package vsphere

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/vmwaretest"
)

// TestAVMIsShutDownReadAndStaysOff: its result is not proved, so that it is not marked.
func TestAVMIsShutDownReadAndStaysOff(t *testing.T) {
	l := newLab(t, nil)
	r := l.run(t, func(c *Config, _ *pipeline.Options, _ *pipeline.Config) { c.Marks = vmware.Marks{Rename: "{name}-old"} })
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.verified(t, r)
	l.wants(t, off)
	if len(r.Carried) != 2 || r.Carried[0].By != "https" || r.Carried[0].Read == 0 || r.Carried[1].Read > r.Carried[1].Size/2 {
		t.Errorf("the disks came as %+v", r.Carried)
	}
	if m := r.Machine; m.NICs[0].MAC != "00:50:56:01:02:03" || m.Name != l.vm.Name || m.Disks[0].Path != l.vm.Disks[0].Path {
		t.Errorf("its record is %+v", m)
	}
	if owes, err := Owes(l.folder); err != nil || !owes { // that it was on
		t.Errorf("the folder owes %v, %v", owes, err)
	}
	names, err := Restore(t.Context(), l.config())
	if err != nil || strings.Join(names, ", ") != "power of "+l.vm.Name {
		t.Errorf("taken back are %q, %v", names, err)
	}
	l.wants(t, on)
}

func TestAVMWhoseMigrationFailsRunsAgain(t *testing.T) {
	l := newLab(t, nil)
	failing := errors.New("the target is on fire")
	r := l.run(t, before("convert", func() error { return failing }))
	if err := r.Go(t.Context()); !errors.Is(err, failing) || !r.Returned {
		t.Errorf("Go = %v, returned %v", err, r.Returned)
	}
	l.wants(t, on)
	if owes, err := Owes(l.folder); err != nil || owes {
		t.Errorf("the folder owes %v, %v", owes, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := l.run(t, nil)
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.verified(t, again)
}

func TestAnInterruptedMigrationGoesOnWithAVMThatStayedOff(t *testing.T) {
	l := newLab(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	r := l.run(t, before("convert", func() error { stop(); return context.Cause(ctx) }))
	if err := r.Go(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Go = %v", err)
	}
	l.wants(t, off)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := l.run(t, nil)
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.verified(t, again)
}

// TestAVMThatWasStartedMeanwhileIsNotTakenForItself: what was made of it is out of date.
func TestAVMThatWasStartedMeanwhileIsNotTakenForItself(t *testing.T) {
	was := guardEvery
	guardEvery = 200 * time.Millisecond
	defer func() { guardEvery = was }()
	l := newLab(t, nil)
	r := l.run(t, before("convert", func() error { return l.power(t.Context(), on) }))
	if err := r.Go(t.Context()); !errors.Is(err, pipeline.ErrSourceChanged) {
		t.Errorf("Go = %v, want %v", err, pipeline.ErrSourceChanged)
	}
	l.wants(t, on)
}

// TestAVMThatWasOffAllAlongAndRanInBetweenIsNotTakenForItself: somebody powers it on and
// off again, and it looks as it did.
func TestAVMThatWasOffAllAlongAndRanInBetweenIsNotTakenForItself(t *testing.T) {
	l := newLab(t, func(vm *vmwaretest.VM) { vm.On = false })
	r := l.run(t, before("convert", func() error { return errors.Join(l.power(t.Context(), on), l.power(t.Context(), off)) }))
	err := r.Go(t.Context())
	if !errors.Is(err, pipeline.ErrSourceChanged) || !strings.Contains(err.Error(), "it is off again: ") || !strings.Contains(err.Error(), "out of date") {
		t.Errorf("Go = %v, want %v", err, pipeline.ErrSourceChanged)
	}
	if len(r.Disks) > 0 {
		t.Errorf("what was copied of it stays: %+v", r.Disks)
	}
	l.wants(t, off)
	if owes, err := Owes(l.folder); err != nil || owes {
		t.Errorf("the folder owes %v, %v", owes, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := l.run(t)
	if err := again.Go(t.Context()); err != nil { // it ran before this one began
		t.Fatal(err)
	}
	l.wants(t, off)
	l.verified(t, again)
}

// TestEventsThatCannotBeReadAreInTheReport, and end no migration.
func TestEventsThatCannotBeReadAreInTheReport(t *testing.T) {
	l := newLab(t, nil)
	l.Fail(vmwaretest.Trouble{Method: "QueryEvents", Fault: &types.NoPermission{Object: &l.vm.Ref, PrivilegeId: "System.View"}, Times: 1 << 20})
	r := l.run(t)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	if report := l.report(t, r); strings.Count(report, "WARNING source/unsure: ") != 1 || !strings.Contains(report, "System.View") {
		t.Errorf("the report does not tell of it once:\n%s", report)
	}
}

// TestAGuestThatCouldNotBeQuiescedIsInTheReport, also where a plan was approved before.
func TestAGuestThatCouldNotBeQuiescedIsInTheReport(t *testing.T) {
	for _, asked := range []bool{true, false} {
		l := newLab(t, nil)
		l.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: &types.ApplicationQuiesceFault{}, Task: true, When: vmwaretest.Quiesced, Times: 9})
		quiesce := func(c *Config, _ *pipeline.Options, _ *pipeline.Config) { c.Quiesce = asked }
		for _, plan := range []*fixers.Plan{nil, {Changes: []guest.Change{}}} {
			l.folder = filepath.Join(t.TempDir(), "small")
			r := l.run(t, live, quiesce, func(_ *Config, o *pipeline.Options, _ *pipeline.Config) { o.Plan, o.Until = plan, "plan" })
			if err := r.Go(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := 0
			if asked {
				want = 1
			}
			if report := l.report(t, r); strings.Count(report, "WARNING vsphere/not-quiesced: ") != want {
				t.Errorf("quiescing was asked for: %v; the report says\n%s", asked, report)
			}
		}
	}
}

func TestAVMRunsOnWhileItIsRehearsed(t *testing.T) {
	l := newLab(t, nil)
	l.layered(t)
	r := l.run(t, live, func(_ *Config, o *pipeline.Options, _ *pipeline.Config) { o.Skip["convert"] = "a rehearsal" })
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, on)
	if owes, err := Owes(l.folder); err != nil || owes {
		t.Errorf("the folder owes %v, %v", owes, err)
	}
	if got := r.Carried[0]; got.Read == 0 || got.Read > got.Size/2 {
		t.Errorf("to rehearse it %d bytes of %d were read", got.Read, got.Size)
	}
}

// TestAnIndependentDiskIsReadOfAVMThatIsOff, and of no other: no snapshot holds it.
func TestAnIndependentDiskIsReadOfAVMThatIsOff(t *testing.T) {
	independent := func(vm *vmwaretest.VM) { vm.Disks[1].Mode = "independent_persistent" }
	l := newLab(t, independent)
	err := l.run(t, live).Go(t.Context())
	if !errors.Is(err, pipeline.ErrBlocked) || !strings.Contains(err.Error(), "vsphere/independent-disk: ") || !strings.Contains(err.Error(), "shut the VM down first") {
		t.Errorf("Go = %v, want %v", err, pipeline.ErrBlocked)
	}
	l.wants(t, on)
	cold := newLab(t, independent)
	r := cold.run(t)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	cold.wants(t, off)
	cold.verified(t, r)
}

func TestWhatForbidsAMigrationIsKnownBeforeAnythingIsChanged(t *testing.T) {
	l := newLab(t, func(vm *vmwaretest.VM) { vm.Disks[1].Sharing = "sharingMultiWriter" })
	r := l.run(t, nil)
	if err := r.Go(t.Context()); !errors.Is(err, pipeline.ErrBlocked) || !strings.Contains(err.Error(), "vsphere/") {
		t.Errorf("Go = %v, want %v", err, pipeline.ErrBlocked)
	}
	l.wants(t, on)
	if _, err := os.Stat(filepath.Join(l.folder, File)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was noted: %v", err)
	}
}
