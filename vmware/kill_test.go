package vmware

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// everythingDone does all that a migration does to a server.
func everythingDone(ctx context.Context, r *rig, h *Hand) error {
	vm := r.source.Self.Value
	key := disksAmong(r.source.Config.Hardware.Device)[0].Key
	var snap Taken
	var disk Attached
	var export *Export
	steps := []func() error{
		func() error { return h.SetCBT(ctx, vm, true) },
		func() error { return h.Shutdown(ctx, vm, PowerPolicy{Wait: 10 * time.Second}) },
		func() (err error) {
			snap, err = h.Snapshot(ctx, vm, SnapshotPolicy{Label: "read", Quiesce: true, Spare: 1})
			return err
		},
		func() (err error) { disk, err = h.Attach(ctx, r.own.Self.Value, vm, snap.Snapshot, key); return err },
		func() (err error) { export, err = h.Export(ctx, vm, snap.Snapshot, key); return err },
		func() error { return export.Progress(ctx, 50) },
		func() error { return export.Close(ctx, true) },
		func() error { return h.Detach(ctx, disk) },
		func() error { return h.RemoveSnapshots(ctx, vm, "") },
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

func (r *rig) folder(t *testing.T, name string) {
	t.Helper()
	s := r.connect(t)
	defer s.Close(context.Background())
	f, err := s.folder(context.Background(), "/DC0/vm")
	if err == nil {
		_, err = methods.CreateFolder(context.Background(), s.soap, &types.CreateFolder{This: f, Name: name})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAMigrationChangesWhatItSaysAndTakesItBack(t *testing.T) {
	r := newRig(t)
	r.folder(t, "Moved")
	before := r.inventory(t)
	ledger := new(pages)
	h := r.hand(t, ledger)
	if err := everythingDone(context.Background(), r, h); err != nil {
		t.Fatal(err)
	}
	if r.source.Name != "DC0_H0_VM1-moved" || r.source.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("the source is %s and %s", r.source.Name, r.source.Runtime.PowerState)
	}
	if err := h.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := []string{"cbt undone", "power made", "snapshot undone", "clone undone", "attach undone", "lease undone",
		"note made", "nic made", "category made", "tag made", "tagged made", "name made", "folder made"}
	if got := ledger.states(); !slices.Equal(got, want) {
		t.Errorf("traces after Finish = %q, want %q", got, want)
	}
	for range 2 { // it may be called again
		if err := h.Restore(context.Background()); err != nil {
			t.Fatal(err)
		}
		r.same(t, before)
	}
}

// everyCall has the tests cut at every call in each way; else each call is cut in one way.
var everyCall = flag.Bool("every-call", false, "cut the connection at every call in each of the ways")

// cuts are the ways in which a connection ends: before a call is sent or when it was
// answered, for good or for once.
var cuts = []struct{ dead, after bool }{{true, false}, {true, true}, {false, false}, {false, true}}

func TestKilledAtAnyCallAndTakenBackByTheNext(t *testing.T) {
	r := newRig(t)
	r.folder(t, "Moved")
	before := r.inventory(t)
	step := int64(len(cuts))
	if *everyCall {
		step = 1
	}
	for i, cut := range cuts {
		for at, ended := 1+int64(i)%step, false; !ended; at += step {
			ledger := new(pages)
			ended = killedAt(t, r, ledger, at, cut.after, cut.dead)
			if err := r.hand(t, ledger).Restore(context.Background()); err != nil {
				t.Fatalf("cut at call %d (after it %v, dead %v): restore: %v\n%q", at, cut.after, cut.dead, err, ledger.states())
			}
			r.same(t, before)
		}
	}
}

// killedAt does everything until the connection is cut, and tells whether it was not.
func killedAt(t *testing.T, r *rig, ledger Ledger, at int64, after, dead bool) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := r.hand(t, ledger)
	c := h.Session.cut(&cutter{at: at, after: after, dead: dead})
	err := everythingDone(ctx, r, h)
	if err != nil && c.calls.Load() < at {
		t.Fatalf("it ended before call %d: %v", at, err)
	}
	return c.calls.Load() < at
}
