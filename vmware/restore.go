package vmware

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// Restore takes back everything that the ledger says is changed, the last first. What
// cannot be taken back does not stop the rest; all errors are told. It may be called
// again.
func (h *Hand) Restore(ctx context.Context) error {
	return h.takeBack(ctx, func(Trace) bool { return true })
}

// Finish takes back what was only needed to read the disks: leases, attached disks,
// clones, snapshots, CBT. The power state and the marks stay.
func (h *Hand) Finish(ctx context.Context) error {
	return h.takeBack(ctx, func(t Trace) bool { return slices.Contains(passing, t.Kind) })
}

// takeBack takes back the open traces that want accepts, the last first.
func (h *Hand) takeBack(ctx context.Context, want func(Trace) bool) error {
	list, err := h.opened(want)
	if err != nil {
		return err
	}
	problems := []error{h.heard(ctx, list)}
	for _, t := range slices.Backward(list) {
		problems = append(problems, h.undo(ctx, t))
	}
	return errors.Join(problems...)
}

// undo takes one trace back and settles it.
func (h *Hand) undo(ctx context.Context, t Trace) error {
	if server := h.Session.identity(); t.Server != server && t.Server != "" && server != "" {
		return fmt.Errorf("%s of %s: %w: it was changed on another vCenter: connect to that", t.Kind, t.Name, ErrCannot)
	}
	err := h.inverse(ctx, t)
	if errors.Is(err, ErrChanged) {
		return errors.Join(err, h.Ledger.Settle(t.ID, Left, ""))
	}
	if err != nil {
		return err
	}
	h.Log.InfoContext(ctx, "vSphere is as before", "kind", t.Kind, "object", t.Object, "now", t.Was)
	return h.Ledger.Settle(t.ID, Undone, "")
}

// heard waits for what a killed process may have begun and did not see the end of.
func (h *Hand) heard(ctx context.Context, list []Trace) error {
	var refs []types.ManagedObjectReference
	for _, t := range list {
		for _, text := range []string{t.Object, t.Part, vmRef(t.Made).String()} {
			if ref, err := refOf(text); err == nil && !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	return h.settled(ctx, refs...)
}

// inverse is what takes a kind of trace back. Each may be called again, and is content
// with what is not there.
func (h *Hand) inverse(ctx context.Context, t Trace) error {
	switch t.Kind {
	case KindSnapshot:
		return h.dropSnapshot(ctx, t)
	case KindClone:
		return h.dropClone(ctx, t)
	case KindAttach:
		return h.dropAttached(ctx, t)
	case KindLease:
		return h.dropLease(ctx, t)
	case KindTagged:
		return h.untag(ctx, t)
	case KindTag:
		return h.dropTag(ctx, t)
	case KindCategory:
		return h.dropCategory(ctx, t)
	}
	if _, ok := levers[t.Kind]; !ok {
		return fmt.Errorf("take back %q: a newer program noted it: use that", t.Kind)
	}
	return h.reset(ctx, t)
}
