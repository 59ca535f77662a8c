package vmware

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

func TestRestoreGoesOnPastWhatItCannotTakeBack(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	before := r.inventory(t)
	ledger := new(pages)
	h := r.hand(t, ledger)
	ctx := context.Background()
	if err := everythingDone(ctx, r, h); err != nil {
		t.Fatal(err)
	}
	r.Fail(vmwaretest.Trouble{Method: "Rename_Task", Fault: &types.InvalidState{}, Task: true})
	r.Fail(vmwaretest.Trouble{Method: "MoveIntoFolder_Task", Fault: &types.InvalidState{}})
	err := h.Restore(ctx)
	if err == nil || !strings.Contains(err.Error(), "take back name") || !strings.Contains(err.Error(), "take back folder") {
		t.Errorf("Restore = %v", err)
	}
	open := slices.DeleteFunc(ledger.states(), func(s string) bool { return strings.HasSuffix(s, "undone") })
	if !slices.Equal(open, []string{"name made", "folder made"}) {
		t.Errorf("open are %q", open)
	}
	if err := h.Restore(ctx); err != nil {
		t.Fatal(err)
	}
	r.same(t, before, "restored twice")
}

func TestATraceOfAnotherServerOrProgramIsRefused(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	before := r.inventory(t)
	for want, trace := range map[string]Trace{
		"another vCenter": {Kind: KindPower, Object: r.source.Ref.String(), Was: "off", Server: "ffff", State: Made},
		"newer program":   {Kind: "color", Object: r.source.Ref.String(), State: Made},
		"Type:ID":         {Kind: KindName, Object: "nonsense", State: Made},
	} {
		ledger := new(pages)
		if _, err := ledger.Note(trace); err != nil {
			t.Fatal(err)
		}
		if err := r.hand(t, ledger).Restore(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Restore = %v, want %q in it", err, want)
		}
	}
	r.same(t, before, "refused")
}

func TestSweepRemovesWhatIsLeftAndNothingElse(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	ctx := context.Background()
	r.Snapshot(t, r.source.Ref, "before the update")
	other := r.hand(t, new(pages))
	other.Migration = migration + "-2" // begins as the other's does
	if _, err := other.Snapshot(ctx, r.source.Ref.Value, SnapshotPolicy{Label: "read", Spare: 1}); err != nil {
		t.Fatal(err)
	}
	before := r.inventory(t)
	h := r.hand(t, new(pages)) // which is lost
	s, err := h.Snapshot(ctx, r.source.Ref.Value, SnapshotPolicy{Label: "read", Spare: 1})
	if err != nil {
		t.Fatal(err)
	}
	for disk := range 2 {
		if _, err := r.attach(h, s.Snapshot, disk); err != nil {
			t.Fatal(err)
		}
	}
	session := r.connect(t)
	defer session.Close(ctx)
	for range 2 {
		if err := session.Sweep(ctx, slog.New(slog.DiscardHandler), r.own.Ref.Value, migration, "never-was"); err != nil {
			t.Fatal(err)
		}
	}
	r.same(t, before, "swept")
	if err := session.Sweep(ctx, slog.Default(), "", "not an ID"); err == nil {
		t.Error("an ID with spaces is swept")
	}
}

func TestAMoveIsNoticed(t *testing.T) {
	r, h, _, snapshot := hotaddRig(t)
	ctx := context.Background()
	s, vm := h.Session, r.source.Ref.Value
	before, err := s.Where(ctx, vm, snapshot)
	if err != nil || len(before.Disks) != 2 || before.Host == "" {
		t.Fatalf("Where = %+v, %v", before, err)
	}
	if err := s.Unmoved(ctx, vm, snapshot, before, true); err != nil {
		t.Fatal(err)
	}
	elsewhere := before
	elsewhere.Host = "host-1"
	if err := s.Unmoved(ctx, vm, snapshot, elsewhere, true); !errors.Is(err, ErrMoved) {
		t.Errorf("on another host: %v", err)
	}
	if err := s.Unmoved(ctx, vm, snapshot, elsewhere, false); err != nil {
		t.Errorf("on another host, where that does not matter: %v", err)
	}
	elsewhere.Disks = map[int32][]string{2000: {"[other] web/web.vmdk"}}
	if err := s.Unmoved(ctx, vm, snapshot, elsewhere, false); !errors.Is(err, ErrMoved) {
		t.Errorf("on another datastore: %v", err)
	}
}
