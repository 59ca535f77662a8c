package vmwaretest

import (
	"crypto/rand"
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// block is the piece of a disk whose changes are told apart, as ESXi does for disks
// that are not huge.
const block = 64 << 10

// diskID is a disk of a VM.
type diskID struct {
	vm  types.ManagedObjectReference
	key int32
}

// tracked is what is known of the changes of a disk.
type tracked struct {
	id  string // a new one says that what was known before is lost
	seq int    // goes up with each snapshot
	on  bool   // changes are tracked from the first snapshot or power-on after they are asked for
	// written is the sequence in which each block was written last; at is that of each
	// snapshot, by its MoRef.
	written map[int64]int
	at      map[string]int
	// forgotten are blocks of which nothing is told.
	forgotten map[int64]bool
}

// tracking is what is known of a disk. s.mu is held.
func (s *Server) tracking(id diskID) *tracked {
	if s.tracked[id] == nil {
		s.tracked[id] = &tracked{at: map[string]int{}, forgotten: map[int64]bool{}}
		s.resetTracking(id)
	}
	return s.tracked[id]
}

func (s *Server) resetTracking(id diskID) {
	t := s.tracking(id)
	t.id, t.seq, t.written = newChangeID(), 1, map[int64]int{}
	clear(t.at)
}

// newChangeID is the first part of a change ID as ESXi writes it, with its blanks:
// 52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95.
func newChangeID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("% x-% x", b[:8], b[8:])
}

// startTracking begins to track the disks of a VM for which that was asked.
func (s *Server) startTracking(vm *simulator.VirtualMachine) {
	for _, d := range disksOf(vm.Config.Hardware.Device) {
		t := s.tracking(diskID{vm.Self, d.Key})
		if wanted := vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled; wanted != t.on {
			s.resetTracking(diskID{vm.Self, d.Key})
			t.on = wanted
		}
	}
}

// mark gives the disks of a new snapshot their change IDs, and counts on.
func (s *Server) mark(vm *simulator.VirtualMachine, snapshot *simulator.VirtualMachineSnapshot) (devices []types.BaseVirtualDevice) {
	for _, d := range snapshot.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok && snapshotted(disk) {
			t := s.tracking(diskID{vm.Self, disk.Key})
			d = onLayer(disk, withChangeID(backingOf(disk), t))
			t.at[snapshot.Self.Value] = t.seq
			t.seq++
		}
		devices = append(devices, d)
	}
	return devices
}

func withChangeID(b *types.VirtualDiskFlatVer2BackingInfo, t *tracked) *types.VirtualDiskFlatVer2BackingInfo {
	n := *b
	n.ChangeId = ""
	if t.on {
		n.ChangeId = fmt.Sprintf("%s/%d", t.id, t.seq)
	}
	return &n
}

// showChangeIDs writes the change IDs of now into a VM's own disks.
func (s *Server) showChangeIDs(vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) {
	for _, d := range disksOf(devices) {
		d.Backing = withChangeID(backingOf(d), s.tracking(diskID{vm.Self, d.Key}))
	}
}

// ResetCBT does what a power failure or a move to another datastore does: earlier
// change IDs are good for nothing.
func (s *Server) ResetCBT(vm types.ManagedObjectReference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.tracked {
		if id.vm == vm {
			s.resetTracking(id)
		}
	}
}
