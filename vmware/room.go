package vmware

import (
	"context"
	"fmt"
	"iter"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// What a datastore must have free for a snapshot, as docs/vsphere.md says it. There is no
// option: a datastore that runs full stops every VM on it, and a VM that is off needs least.
const (
	leastSpare = 1 << 30
	// spareShare is the part of a disk that a guest is expected to write at most while
	// its snapshot is read.
	spareShare = 20
)

// Why so much has to be free, and what to do.
const (
	anySpare    = "that a snapshot may need: free some or move the VM"
	guestsSpare = "that a running guest may write meanwhile, which is a twentieth of its disks there and 1024 MiB at least: free some, move the VM, or shut it down first, for then 1024 MiB are enough"
)

// roomForSnapshot refuses a snapshot for which there is no place.
func (h *Hand) roomForSnapshot(ctx context.Context, v mo.VirtualMachine, policy SnapshotPolicy) error {
	most := policy.Most
	if most == 0 {
		most = mostSnapshots
	}
	n := 0
	for range branches(v.Snapshot) {
		n++
	}
	if n >= most {
		return fmt.Errorf("%w: it has %d snapshots and may have %d: remove some first", ErrTooMany, n, most)
	}
	spare := policy.Spare
	if spare == 0 && v.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff {
		spare = leastSpare // nobody writes
	}
	return h.Session.roomy(ctx, v, spare)
}

// roomy is ErrSpace if a datastore of a VM's disks has too little free.
func (s *Session) roomy(ctx context.Context, v mo.VirtualMachine, spare int64) error {
	sizes := map[types.ManagedObjectReference]int64{}
	for _, d := range disksOf(v) {
		if ds := backingOf(d.Backing).datastore; ds != nil {
			sizes[*ds] += d.CapacityInBytes
		}
	}
	for ref, size := range sizes {
		want, why := spare, anySpare
		if want == 0 {
			want, why = max(leastSpare, size/spareShare), guestsSpare
		}
		if err := s.free(ctx, ref, want, why); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) free(ctx context.Context, ref types.ManagedObjectReference, want int64, why string) error {
	var ds mo.Datastore
	if err := s.look(ctx, ref, &ds, "summary"); err != nil {
		return explain(err, "free space of %s", ref.Value)
	}
	if ds.Summary.FreeSpace < want {
		return fmt.Errorf("%s: %w: %d MiB of %d MiB %s", ds.Summary.Name, ErrSpace, ds.Summary.FreeSpace>>20, want>>20, why)
	}
	return nil
}

// branches are all snapshots of a VM.
func branches(info *types.VirtualMachineSnapshotInfo) iter.Seq[types.VirtualMachineSnapshotTree] {
	return func(yield func(types.VirtualMachineSnapshotTree) bool) {
		if info != nil {
			walk(info.RootSnapshotList, yield)
		}
	}
}

func walk(list []types.VirtualMachineSnapshotTree, yield func(types.VirtualMachineSnapshotTree) bool) bool {
	for _, s := range list {
		if !yield(s) || !walk(s.ChildSnapshotList, yield) {
			return false
		}
	}
	return true
}
