package vmwaretest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// GuestWrite writes to a disk of a VM as its guest would: snapshots do not see it.
func (s *Server) GuestWrite(t testing.TB, vm types.ManagedObjectReference, key int32, off int64, p []byte) {
	t.Helper()
	s.guestWrite(t, vm, key, off, p, true)
}

// ForgottenWrite is one of which change tracking never tells, as some versions of vSphere
// have forgotten.
func (s *Server) ForgottenWrite(t testing.TB, vm types.ManagedObjectReference, key int32, off int64, p []byte) {
	t.Helper()
	s.guestWrite(t, vm, key, off, p, false)
}

func (s *Server) guestWrite(t testing.TB, vm types.ManagedObjectReference, key int32, off int64, p []byte, told bool) {
	t.Helper()
	machine := vmOf(s.context(), vm)
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.current(machine, key)
	if err == nil {
		err = l.write(off, p)
	}
	if err != nil {
		t.Fatalf("write to disk %d of %s: %v", key, vm.Value, err)
	}
	tracked := s.tracking(diskID{vm, key})
	for b := off / block; b*block < off+int64(len(p)); b++ {
		if tracked.forgotten[b] = !told; told {
			tracked.written[b] = tracked.seq
		}
	}
}

// current is what a disk of a VM stands on. s.mu is held.
func (s *Server) current(vm *simulator.VirtualMachine, key int32) (*layer, error) {
	for _, d := range disksOf(vm.Config.Hardware.Device) {
		if d.Key == key {
			return s.layerOf(vm, d)
		}
	}
	return nil, fmt.Errorf("there is no disk %d", key)
}

func (l *layer) write(off int64, p []byte) (err error) {
	if off < 0 || off+int64(len(p)) > l.size {
		return errors.New("the disk is not so long")
	}
	if err := l.unshare(); err != nil {
		return err
	}
	l.stale = l.parent != nil
	f, err := os.OpenFile(l.raw, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteAt(p, off)
	return err
}

// Raw is a file with the bytes of a disk of a VM as they are now, for comparing.
func (s *Server) Raw(t testing.TB, vm types.ManagedObjectReference, key int32) string {
	t.Helper()
	machine := vmOf(s.context(), vm)
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.current(machine, key)
	if err != nil {
		t.Fatalf("disk %d of %s: %v", key, vm.Value, err)
	}
	return l.raw
}

// RawOf is a file with the bytes of the disk that a descriptor's datastore path names,
// as VDDK would read it.
func (s *Server) RawOf(t testing.TB, datastorePath string) string {
	t.Helper()
	file, err := s.file("", datastorePath)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.layers[file]; l != nil && err == nil {
		return l.raw
	}
	t.Fatalf("there is no disk %s", datastorePath)
	return ""
}
