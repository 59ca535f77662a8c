package vmwaretest

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// AddMany adds n more VMs like one that is there, called NAME-000001 and so on, spread
// over all hosts. They are for being listed: they have no files, and nothing else can
// be done with them.
func (s *Server) AddMany(t testing.TB, like VM, n int) []types.ManagedObjectReference {
	t.Helper()
	ctx := s.context()
	vm := vmOf(ctx, like.Ref)
	var hosts []*simulator.HostSystem
	for _, e := range s.entities("HostSystem") {
		hosts = append(hosts, e.(*simulator.HostSystem))
	}
	refs := make([]types.ManagedObjectReference, n)
	for i := range refs {
		c := copyForList(vm, i+1)
		host := hosts[i%len(hosts)]
		c.Runtime.Host, c.Summary.Runtime.Host = &host.Self, &host.Self
		refs[i] = ctx.Map.Put(c).Reference()
		c.Summary.Vm = &refs[i]
		host.Vm = append(host.Vm, refs[i])
	}
	s.enrol(ctx, vm, refs)
	return refs
}

// enrol puts VMs to where another one is listed, and notes them as the arranger's.
func (s *Server) enrol(ctx *simulator.Context, like *simulator.VirtualMachine, refs []types.ManagedObjectReference) {
	folder := ctx.Map.Get(*like.Parent).(*simulator.Folder)
	folder.ChildEntity = append(folder.ChildEntity, refs...)
	if pool, ok := ctx.Map.Get(*like.ResourcePool).(*simulator.ResourcePool); ok {
		pool.Vm = append(pool.Vm, refs...)
	}
	for _, ref := range like.Datastore {
		ds := ctx.Map.Get(ref).(*simulator.Datastore)
		ds.Vm = append(ds.Vm, refs...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range refs {
		s.initial[ref] = true
	}
}

// copyForList is a VM that differs from another one in what tells VMs apart.
func copyForList(vm *simulator.VirtualMachine, n int) *simulator.VirtualMachine {
	c := &simulator.VirtualMachine{VirtualMachine: vm.VirtualMachine}
	config := *vm.Config
	c.Self, c.Config = types.ManagedObjectReference{Type: "VirtualMachine"}, &config
	c.Name = fmt.Sprintf("%s-%06d", vm.Name, n)
	config.Name, config.Uuid, config.InstanceUuid = c.Name, uuid.NewString(), uuid.NewString()
	c.Summary.Config.Name, c.Summary.Config.Uuid, c.Summary.Config.InstanceUuid = c.Name, config.Uuid, config.InstanceUuid
	config.Files.VmPathName = renamed(config.Files.VmPathName, vm.Name, c.Name)
	config.Hardware.Device = nil
	for _, d := range vm.Config.Hardware.Device {
		config.Hardware.Device = append(config.Hardware.Device, copyDevice(d, vm.Name, c.Name, n))
	}
	return c
}

// copyDevice is a disk with files of its own, a network card with an address of its own,
// or the device itself.
func copyDevice(d types.BaseVirtualDevice, from, to string, n int) types.BaseVirtualDevice {
	switch x := d.(type) {
	case *types.VirtualDisk:
		if b := backingOf(x); b != nil {
			own := *b
			own.FileName, own.Uuid = renamed(b.FileName, from, to), newDiskUUID()
			return onLayer(x, &own)
		}
	case *types.VirtualVmxnet3:
		own := *x
		own.MacAddress = fmt.Sprintf("00:50:56:%02x:%02x:%02x", n>>16&0x3f, n>>8&0xff, n&0xff)
		return &own
	}
	return d
}

// renamed is a datastore path with a VM's name in place of another one's.
func renamed(datastorePath, from, to string) string {
	dir, file := path.Split(datastorePath)
	return strings.ReplaceAll(dir, from, to) + strings.ReplaceAll(file, from, to)
}
