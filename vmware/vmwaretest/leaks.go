package vmwaretest

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Leaks are what is left of a client's work, a line each: open sessions, leases,
// snapshots and VMs that are not the arranger's, disks of a VM that are attached to
// another one or are gone, and VMs that need consolidation.
func (s *Server) Leaks() (all []string) {
	for _, u := range s.Sessions() {
		all = append(all, fmt.Sprintf("an open session of %s", u.UserName))
	}
	ctx := s.context()
	for _, e := range s.entities("VirtualMachine") {
		all = append(all, s.leaksOf(ctx, e.(*simulator.VirtualMachine))...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		all = append(all, fmt.Sprintf("a lease on %s", s.nameOf(l.vm)))
	}
	for _, l := range s.destroyed {
		if l.arranged {
			all = append(all, fmt.Sprintf("%s of %s is gone", l.path, s.nameOf(l.owner)))
		}
	}
	slices.Sort(all)
	return all
}

// nameOf is what a VM is called. s.mu is held.
func (s *Server) nameOf(vm types.ManagedObjectReference) string {
	if v, ok := s.madeVMs[vm]; ok {
		return v.Name
	}
	return vm.Value
}

func (s *Server) leaksOf(ctx *simulator.Context, vm *simulator.VirtualMachine) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.madeVMs[vm.Self]; !ok && !s.initial[vm.Self] {
		all = append(all, fmt.Sprintf("the VM %s", vm.Name))
	}
	if vm.Snapshot != nil {
		for _, n := range flatten(vm.Snapshot.RootSnapshotList) {
			if !s.made[n.Snapshot] {
				all = append(all, fmt.Sprintf("the snapshot %q of %s", n.Name, vm.Name))
			}
		}
	}
	if vm.Runtime.ConsolidationNeeded {
		all = append(all, fmt.Sprintf("%s needs consolidation", vm.Name))
	}
	for _, d := range disksOf(vm.Config.Hardware.Device) {
		if l := s.known(vm, d); l != nil && l.owner != vm.Self {
			all = append(all, fmt.Sprintf("%s of %s is attached to %s", l.path, s.nameOf(l.owner), vm.Name))
		}
	}
	return all
}
