package vmware

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// everythingDone does all that a migration does to a server.
func everythingDone(ctx context.Context, r *rig, h *Hand) error {
	vm, key := r.source.Ref.Value, r.source.Disks[1].Key
	var snap Taken
	var disk Attached
	var export *Export
	steps := []func() error{
		func() error { return h.SetCBT(ctx, vm, true) },
		func() error { return h.Shutdown(ctx, vm, PowerPolicy{Wait: time.Second}) },
		func() (err error) {
			snap, err = h.Snapshot(ctx, vm, SnapshotPolicy{Label: "read", Quiesce: true, Spare: 1})
			return err
		},
		func() (err error) { disk, err = h.Attach(ctx, r.own.Ref.Value, vm, snap.Snapshot, key); return err },
		func() (err error) { export, err = h.Export(ctx, vm, snap.Snapshot, key); return err },
		func() error { return export.Progress(ctx, 50) },
		func() error { return export.Close(ctx, true) },
		func() error { return h.Detach(ctx, disk) },
		func() error { return h.unfrozen(ctx) },
		func() error {
			return h.Mark(ctx, vm, Marks{Note: "moved by {migration}", DisconnectNICs: true, Tag: Tag{"hyper2kvm", "migrated"}, CreateTag: true,
				Rename: "{name}-moved", Folder: "/DC0/vm/Moved"})
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func TestAMigrationChangesWhatItSaysAndTakesItBack(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	before := r.inventory(t)
	ledger := new(pages)
	h := r.hand(t, ledger)
	if err := everythingDone(context.Background(), r, h); err != nil {
		t.Fatal(err)
	}
	if v := r.vm(r.source); v.Name != "web 100%252f%2fa-moved" || v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("the source is %s and %s", v.Name, v.Runtime.PowerState)
	}
	if err := h.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := []string{"cbt undone", "power made", "snapshot undone", "clone undone", "attach undone", "lease undone",
		"note made", "nic made", "nic made", "category made", "tag made", "tagged made", "name made", "folder made"}
	if got := ledger.states(); !slices.Equal(got, want) {
		t.Errorf("traces after Finish = %q, want %q", got, want)
	}
	for range 2 { // it may be called again
		if err := h.Restore(context.Background()); err != nil {
			t.Fatal(err)
		}
		r.same(t, before, "taken back")
	}
	if err := h.Session.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if leaks := r.Leaks(); len(leaks) > 0 {
		t.Errorf("left are %q", leaks)
	}
}

// everyCall has the kill test cut at calls that only read too, and also for once.
var everyCall = flag.Bool("every-call", false, "cut the connection at every call in each of the ways")

// cuts are the ways in which a connection ends: before a call is sent or when it was
// answered, for good or for once.
var cuts = []struct{ dead, after bool }{{true, false}, {true, true}, {false, false}, {false, true}}

func TestKilledAtAnyCallAndTakenBackByTheNext(t *testing.T) {
	r := newRig(t, vmwaretest.Options{LeaseTimeout: 3 * time.Second})
	before := r.inventory(t)
	for _, cut := range cuts {
		if !cut.dead && !*everyCall {
			continue
		}
		for at, ended := int64(1), false; !ended; at++ {
			ledger := new(pages)
			ended = killedAt(t, r, ledger, at, cut.after, cut.dead)
			if err := r.hand(t, ledger).Restore(context.Background()); err != nil {
				t.Fatalf("cut at call %d (after it %v, dead %v): restore: %v\n%q", at, cut.after, cut.dead, err, ledger.states())
			}
			r.same(t, before, fmt.Sprintf("cut at call %d (after it %v, dead %v): %q", at, cut.after, cut.dead, ledger.states()))
		}
	}
	r.ended(t)
}

// ended fails the test if anything is left. A killed process cannot log out, and leases
// of which it never heard it cannot end: the server ends both when they are idle.
func (r *rig) ended(t *testing.T) {
	t.Helper()
	r.KillSessions(t)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		leaks := r.Leaks()
		if len(leaks) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left are %q", leaks)
		}
	}
}

// killedAt does everything until the connection is cut, and tells whether it was not.
func killedAt(t *testing.T, r *rig, ledger Ledger, at int64, after, dead bool) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := r.hand(t, ledger)
	c := h.Session.cut(&cutter{at: at, after: after, dead: dead, every: *everyCall})
	err := everythingDone(ctx, r, h)
	if err != nil && c.calls.Load() < at {
		t.Fatalf("it ended before call %d: %v", at, err)
	}
	return c.calls.Load() < at
}
