package vmware

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// SnapshotPolicy is how a VM's disks are frozen.
type SnapshotPolicy struct {
	// Label tells a migration's snapshots apart: the one with a label that is there
	// already is used again.
	Label   string
	Quiesce bool  // the guest flushes its files first, if it can
	Most    int   // of all snapshots of the VM before this one; 28 if zero
	Spare   int64 // bytes that each of its datastores must have free; 1 GiB or a twentieth of the disks if zero
}

// mostSnapshots leaves room below the 32 of a chain, beyond which a VM may not power on.
// Source: VMware KB 1025279 (best practices for snapshots: at most 32 in a chain).
const mostSnapshots = 28

// Taken is a snapshot of our own.
type Taken struct {
	Snapshot string // its MoRef
	Quiesced bool
	Why      string // it is not quiesced although that was asked for
}

// Snapshot freezes a VM's disks, never with its memory. ErrTooMany and ErrSpace refuse
// it before anything is done.
func (h *Hand) Snapshot(ctx context.Context, vm string, policy SnapshotPolicy) (Taken, error) {
	v, err := h.Session.snapshots(ctx, vm)
	if err != nil {
		return Taken{}, err
	}
	name := mark(h.Migration, policy.Label)
	quiesce := policy.Quiesce && v.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	if own := h.own(v, name); len(own) == 1 {
		taken := Taken{Snapshot: own[0].Snapshot.Value, Quiesced: own[0].Quiesced}
		if quiesce && !taken.Quiesced {
			taken.Why = "it was taken so before, by a process that did not come to its end"
		}
		return taken, h.adopt(v, own[0])
	}
	if err := h.roomForSnapshot(ctx, v, policy); err != nil {
		return Taken{}, fmt.Errorf("snapshot of %s: %w", v.Name, err)
	}
	return h.freeze(ctx, v, name, quiesce)
}

// adopt settles the trace of a snapshot that a killed process made.
func (h *Hand) adopt(v mo.VirtualMachine, own types.VirtualMachineSnapshotTree) error {
	noted, err := h.opened(func(t Trace) bool {
		return t.Kind == KindSnapshot && t.Object == v.Self.String() && t.Becomes == own.Name
	})
	if err != nil {
		return err
	}
	if len(noted) > 0 {
		return h.Ledger.Settle(noted[0].ID, Made, own.Snapshot.Value)
	}
	t, err := h.note(snapshotTrace(v, own.Name))
	if err != nil {
		return err
	}
	return h.Ledger.Settle(t.ID, Made, own.Snapshot.Value)
}

// unmerged says in a snapshot's trace that the VM needed consolidation before it.
const unmerged = "needs consolidation"

func snapshotTrace(v mo.VirtualMachine, name string) Trace {
	t := Trace{Kind: KindSnapshot, Object: v.Self.String(), Name: v.Name, Becomes: name}
	if v.Runtime.ConsolidationNeeded {
		t.Was = unmerged
	}
	return t
}

// freeze makes a snapshot, without quiescing if the guest cannot.
func (h *Hand) freeze(ctx context.Context, v mo.VirtualMachine, name string, quiesce bool) (taken Taken, err error) {
	taken.Quiesced = quiesce
	_, err = h.make(ctx, snapshotTrace(v, name), func(ctx context.Context) (string, error) {
		made, err := h.createSnapshot(ctx, v.Self, name, quiesce)
		if quiesce && cannotQuiesce(err) {
			taken.Quiesced, taken.Why = false, err.Error()
			h.Log.WarnContext(ctx, "the guest cannot be quiesced: the snapshot is as after a power failure", "object", v.Self.Value, "err", err)
			made, err = h.createSnapshot(ctx, v.Self, name, false)
		}
		taken.Snapshot = made
		return made, explain(err, "snapshot of %s", v.Name)
	})
	return taken, err
}

// cannotQuiesce reports whether an error says that a guest could not flush its files.
// Source: vSphere API, VirtualMachine.CreateSnapshot_Task, faults.
func cannotQuiesce(err error) bool {
	return isFault[*types.ApplicationQuiesceFault](err) || isFault[*types.FilesystemQuiesceFault](err) ||
		isFault[*types.ToolsUnavailable](err)
}

func (h *Hand) createSnapshot(ctx context.Context, vm types.ManagedObjectReference, name string, quiesce bool) (string, error) {
	return h.makes(ctx, "snapshot", func(ctx context.Context) (*object.Task, error) {
		return h.vm(vm).CreateSnapshot(ctx, name, stamp(h.Migration), false, quiesce)
	})
}

// dropSnapshot removes a VM's snapshot with a name of ours, if it is there.
func (h *Hand) dropSnapshot(ctx context.Context, t Trace) error {
	ref, err := refOf(t.Object)
	if err != nil {
		return err
	}
	v, err := h.Session.snapshots(ctx, ref.Value)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, own := range h.own(v, t.Becomes) {
		if err := h.removeSnapshot(ctx, own.Snapshot); err != nil {
			return explain(err, "remove snapshot %q of %s", own.Name, v.Name)
		}
	}
	return errors.Join(h.renamed(v, t), h.consolidate(ctx, ref, t))
}

// consolidate merges what a removed snapshot left unmerged because somebody, a backup
// maybe, had a disk open. A VM that needed it before is left as it was.
func (h *Hand) consolidate(ctx context.Context, ref types.ManagedObjectReference, t Trace) error {
	var v mo.VirtualMachine
	err := h.Session.look(ctx, ref, &v, "runtime.consolidationNeeded")
	if err != nil || t.Was == unmerged || !v.Runtime.ConsolidationNeeded {
		return explain(err, "disks of %s", t.Name)
	}
	_, err = h.run(ctx, func(ctx context.Context) (*object.Task, error) {
		res, err := methods.ConsolidateVMDisks_Task(ctx, h.Session.client, &types.ConsolidateVMDisks_Task{This: ref})
		if err != nil {
			return nil, err
		}
		return object.NewTask(h.Session.client, res.Returnval), nil
	})
	return explain(err, "merge what the snapshot of %s has left", t.Name)
}

// renamed is ErrChanged if a snapshot that was made is there under another name: who
// gave it one may need it.
func (h *Hand) renamed(v mo.VirtualMachine, t Trace) error {
	for s := range branches(v.Snapshot) {
		if s.Snapshot.Value == t.Made && (s.Name != t.Becomes || s.Description != stamp(h.Migration)) {
			return fmt.Errorf("%w: snapshot %q of %s is now called %q: remove it when it is not needed", ErrChanged, t.Becomes, v.Name, s.Name)
		}
	}
	return nil
}

// removeSnapshot removes one snapshot, keeps those that stand on it, and waits until
// its disks are merged, which may take hours.
func (h *Hand) removeSnapshot(ctx context.Context, ref types.ManagedObjectReference) error {
	_, err := h.run(ctx, func(ctx context.Context) (*object.Task, error) {
		res, err := methods.RemoveSnapshot_Task(ctx, h.Session.client, &types.RemoveSnapshot_Task{
			This: ref, RemoveChildren: false, Consolidate: types.NewBool(true)})
		if err != nil {
			return nil, err
		}
		return object.NewTask(h.Session.client, res.Returnval), nil
	})
	if gone(err) {
		return nil
	}
	return err
}

// own are the snapshots of this migration with a name: by name and description, so that
// none is taken for ours that somebody has taken over.
func (h *Hand) own(v mo.VirtualMachine, name string) (list []types.VirtualMachineSnapshotTree) {
	for s := range branches(v.Snapshot) {
		if s.Name == name && s.Description == stamp(h.Migration) {
			list = append(list, s)
		}
	}
	return list
}

// marked reports whether a snapshot is one of a migration's.
func marked(s types.VirtualMachineSnapshotTree, migration string) bool {
	return strings.HasPrefix(s.Name, mark(migration, "")) && s.Description == stamp(migration)
}

// snapshots reads what is needed of a VM to make or remove snapshots.
func (s *Session) snapshots(ctx context.Context, vm string) (v mo.VirtualMachine, err error) {
	err = s.look(ctx, vmRef(vm), &v, "name", "snapshot", "runtime.powerState", "runtime.consolidationNeeded", "config.hardware.device")
	v.Name = unescaped(v.Name)
	return v, explain(err, "snapshots of %s", vm)
}
