package vmware

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vmware/govmomi/vim25/mo"
)

// Where is where a VM's disks are read: which host runs it, and which files they are.
type Where struct {
	Host  string             `json:"host,omitempty"` // its MoRef
	Disks map[int32][]string `json:"disks"`          // the chain of each by its key, the nearest first
}

// Where is where a VM's disks are, in a snapshot, or as the VM has them now. No method of
// the public API keeps a VM from being moved, so that it is compared before and after.
func (s *Session) Where(ctx context.Context, vm, snapshot string) (Where, error) {
	var v mo.VirtualMachine
	if err := s.look(ctx, vmRef(vm), &v, "runtime.host"); err != nil {
		return Where{}, explain(err, "host of %s", vm)
	}
	disks, err := s.disksIn(ctx, vm, snapshot)
	if err != nil {
		return Where{}, err
	}
	w := Where{Disks: map[int32][]string{}}
	if v.Runtime.Host != nil {
		w.Host = v.Runtime.Host.Value
	}
	for _, d := range disks {
		w.Disks[d.Key] = backingOf(d.Backing).files
	}
	return w, nil
}

// Unmoved is ErrMoved if a VM's disks are not where they were. A VM that only runs on
// another host is not told of where the host did not matter to who read: hostToo. Without
// a snapshot the VM must be off: what was put on its disks since, as snapshots do, is
// empty then.
func (s *Session) Unmoved(ctx context.Context, vm, snapshot string, before Where, hostToo bool) error {
	now, err := s.Where(ctx, vm, snapshot)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(before.Disks)) {
		files, found := before.Disks[key], now.Disks[key]
		if more := len(found) - len(files); snapshot == "" && more > 0 {
			found = found[more:]
		}
		if !slices.Equal(files, found) {
			return fmt.Errorf("%s: %w while it was read: disk %d was %q and is %q: keep DRS and people from moving it, and read it again",
				vm, ErrMoved, key, files, now.Disks[key])
		}
	}
	if hostToo && before.Host != now.Host {
		return fmt.Errorf("%s: %w while it was read: from host %s to %s: begin again", vm, ErrMoved, before.Host, now.Host)
	}
	return nil
}
