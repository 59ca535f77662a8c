package vmwaretest

import (
	"errors"
	"os"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// errLocked is a layer that another VM has open, too.
var errLocked = errors.New("another VM uses the disk")

// consolidate merges the deltas of a VM into the layers below that no snapshot needs,
// and removes those that nothing stands on. Where another VM uses one of them the
// snapshot is gone all the same, and the VM says that it needs consolidation.
func (s *Server) consolidate(ctx *simulator.Context, vm *simulator.VirtualMachine) types.BaseMethodFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.mergeAll(ctx, vm)
	s.restackAll(ctx, vm)
	needed := errors.Is(err, errLocked)
	ctx.Update(vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: needed}})
	switch {
	case needed:
		return &types.FileLocked{FileFault: types.FileFault{File: vm.Config.Files.VmPathName}}
	case err != nil:
		return &types.SystemErrorFault{Reason: err.Error()}
	}
	return nil
}

// mergeAll merges until there is nothing left to merge. s.mu is held.
func (s *Server) mergeAll(ctx *simulator.Context, vm *simulator.VirtualMachine) (err error) {
	for done := false; !done; {
		done = true
		used := s.used(ctx, vm)
		for _, l := range s.ownedBy(vm) {
			if slices.Contains(used, l) {
				continue
			}
			changed, fault := s.merge(ctx, vm, l)
			if err = errors.Join(err, fault); changed {
				done = false
				break
			}
		}
	}
	return err
}

// ownedBy are a VM's layers, the lowest first.
func (s *Server) ownedBy(vm *simulator.VirtualMachine) (all []*layer) {
	for _, l := range s.layers {
		if l.owner == vm.Self {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b *layer) int { return a.height() - b.height() })
	return all
}

// height is how many layers are below.
func (l *layer) height() int {
	if l.parent == nil {
		return 0
	}
	return 1 + l.parent.height()
}

// used are the layers that a VM or its snapshots stand on at once.
func (s *Server) used(ctx *simulator.Context, vm *simulator.VirtualMachine) (all []*layer) {
	sets := [][]types.BaseVirtualDevice{vm.Config.Hardware.Device}
	for _, snapshot := range snapshotsOf(ctx, vm) {
		sets = append(sets, snapshot.Config.Hardware.Device)
	}
	for _, d := range disksOf(slices.Concat(sets...)) {
		if l := s.known(vm, d); l != nil {
			all = append(all, l)
		}
	}
	return all
}

// merge takes a layer that nothing needs out of its chain: a delta without children
// goes, and one that a single delta stands on gets that one's content.
func (s *Server) merge(ctx *simulator.Context, vm *simulator.VirtualMachine, l *layer) (changed bool, err error) {
	above := s.children(l)
	switch {
	case len(above) == 0 && l.parent != nil && !l.made && !s.usedElsewhere(ctx, vm, l):
		return true, s.forget(l)
	case slices.ContainsFunc(above, func(c *layer) bool { return c.owner != vm.Self }):
		return false, errLocked // a linked clone
	case len(above) != 1:
		return false, nil
	case s.usedElsewhere(ctx, vm, l) || s.usedElsewhere(ctx, vm, above[0]):
		return false, errLocked
	}
	return true, s.commit(above[0], l)
}

// usedElsewhere tells whether another VM has a layer among its disks.
func (s *Server) usedElsewhere(ctx *simulator.Context, vm *simulator.VirtualMachine, l *layer) bool {
	for _, e := range ctx.Map.All("VirtualMachine") {
		other := e.(*simulator.VirtualMachine)
		if other != vm && slices.Contains(s.used(ctx, other), l) {
			return true
		}
	}
	return false
}

// commit writes a delta into the layer below, whose name stays.
func (s *Server) commit(delta, l *layer) error {
	if err := os.Rename(delta.raw, l.raw); err != nil {
		return err
	}
	l.shared, l.stale = delta.shared, l.parent != nil
	for _, c := range s.children(delta) {
		c.parent, c.stale = l, true
		if err := os.WriteFile(c.file, []byte(deltaDescriptor(c)), 0o600); err != nil {
			return err
		}
	}
	s.became[delta.file] = l
	return s.forget(delta)
}

// restackAll gives the disks of a VM and of its snapshots the names of the layers that
// their old ones became. s.mu is held.
func (s *Server) restackAll(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	for _, snapshot := range snapshotsOf(ctx, vm) {
		ctx.Update(snapshot, []types.PropertyChange{
			{Name: "config.hardware.device", Val: s.restacked(vm, snapshot.Config.Hardware.Device)}})
	}
	s.setDevices(ctx, vm, s.restacked(vm, vm.Config.Hardware.Device))
	clear(s.became)
}

// restacked are devices with their disks on the layers of today.
func (s *Server) restacked(vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) (all []types.BaseVirtualDevice) {
	for _, d := range devices {
		if disk, ok := d.(*types.VirtualDisk); ok && backingOf(disk) != nil {
			if l, err := s.layerOf(vm, disk); err == nil {
				d = onLayer(disk, s.restack(backingOf(disk), l))
			}
		}
		all = append(all, d)
	}
	return all
}
