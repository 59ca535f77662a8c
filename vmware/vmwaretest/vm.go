package vmwaretest

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// VM is a virtual machine to add. The zero values of what is not said are below.
type VM struct {
	Name      string // as people read it; the server stores / as %2f, \ as %5c and % as %25
	Folder    string // below the datacenter's VM folder: Prod/Web
	Datastore string // the first
	Directory string // on its datastore; its name as the server stores it
	Host      string // the first

	GuestID    string // debian12_64Guest
	Version    string // vmx-19
	EFI        bool
	SecureBoot bool
	CPUs       int32 // 1
	Memory     int64 // bytes; 1 GiB
	UUID       string
	Annotation string
	CBT        bool
	On         bool
	NoTools    bool // VMware's are not installed

	ShutdownTakes   time.Duration // of the guest, once it is asked to
	IgnoresShutdown bool          // the guest never does

	Disks []Disk
	NICs  []NIC
	// Snapshots are made in this order, each on the one before. They are no leaks.
	Snapshots []string
	// Also changes what cannot be said here, last of all.
	Also func(*mo.VirtualMachine)

	Ref types.ManagedObjectReference // filled in by AddVM
}

// Disk is a disk of a VM to add.
type Disk struct {
	// Raw is a file with its bytes, which is copied or shared and never written. Without
	// one the disk is a hole of Size bytes.
	Raw  string
	Size int64
	// Link takes a hard link of Raw where its blocks cannot be shared, instead of a copy:
	// who writes to Raw then writes to the disk.
	Link      bool
	Datastore string // the VM's
	Bus       string // of its controller: pvscsi, lsilogic, lsilogic-sas, buslogic, sata, nvme, ide; pvscsi
	Number    int32  // of the controller on its bus
	Thin      bool
	Mode      string // VMware's diskMode; persistent
	Sharing   string // VMware's

	Key  int32  // filled in by AddVM, as are those below
	UUID string // given to it if it has none
	Path string // of its descriptor: [datastore1] web01/web01.vmdk
}

// NIC is a network card of a VM to add.
type NIC struct {
	Model   string // vmxnet3
	Network string // by name; VM Network
	MAC     string // given to it if empty
}

// AddVM adds a VM with its disks' bytes, and returns it with what the server gave it.
func (s *Server) AddVM(t testing.TB, v VM) VM {
	t.Helper()
	v = v.filled(s)
	v.Disks = append([]Disk(nil), v.Disks...)
	for i := range v.Disks {
		s.place(t, &v, i)
	}
	s.create(t, &v)
	for _, name := range v.Snapshots {
		s.Snapshot(t, v.Ref, name)
	}
	s.keep(v)
	return v
}

// keep notes a VM as the arranger's.
func (s *Server) keep(v VM) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.madeVMs[v.Ref] = v
}

func (v VM) filled(s *Server) VM {
	stored := escape(v.Name)
	v.Datastore = cmp.Or(v.Datastore, s.options.Datastores[0])
	v.Directory = cmp.Or(v.Directory, stored)
	v.GuestID = cmp.Or(v.GuestID, "debian12_64Guest")
	v.Version = cmp.Or(v.Version, "vmx-19")
	v.CPUs = cmp.Or(v.CPUs, 1)
	v.Memory = cmp.Or(v.Memory, 1<<30)
	v.UUID = cmp.Or(v.UUID, uuid.NewString())
	return v
}

// place puts the bytes of a VM's disk onto its datastore.
func (s *Server) place(t testing.TB, v *VM, i int) {
	t.Helper()
	d := &v.Disks[i]
	d.Bus, d.Mode = cmp.Or(d.Bus, "pvscsi"), cmp.Or(d.Mode, string(types.VirtualDiskModePersistent))
	d.Datastore = cmp.Or(d.Datastore, v.Datastore)
	d.UUID = cmp.Or(d.UUID, newDiskUUID())
	d.Path = fmt.Sprintf("[%s] %s", d.Datastore, path.Join(v.Directory, diskName(v.Directory, i)))
	file, err := s.file("", d.Path)
	if err != nil {
		t.Fatal(err)
	}
	l := &layer{path: d.Path, file: file, raw: flat(file), size: d.Size, uuid: d.UUID}
	if err := s.fill(l, d); err != nil {
		t.Fatalf("put %s onto the datastore: %v", d.Path, err)
	}
	d.Size = l.size
}

// diskName is as VMware calls the disks of a VM: web01.vmdk, web01_1.vmdk.
func diskName(directory string, i int) string {
	base := filepath.Base(directory)
	if i > 0 {
		base = fmt.Sprintf("%s_%d", base, i)
	}
	return base + ".vmdk"
}

// create has the simulator make the VM of files that are there.
func (s *Server) create(t testing.TB, v *VM) {
	t.Helper()
	ctx := context.Background()
	host := s.host(t, v.Host)
	folder := s.vmFolder(t, s.datacenter(host), v.Folder)
	pool, err := object.NewHostSystem(s.Client, host.Reference()).ResourcePool(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ref := host.Reference()
	task, err := folder.CreateVM(ctx, v.spec(t, s), pool, object.NewHostSystem(s.Client, ref))
	if err != nil {
		t.Fatalf("add the VM %q: %v", v.Name, err)
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		t.Fatalf("add the VM %q: %v", v.Name, err)
	}
	v.Ref = info.Result.(types.ManagedObjectReference)
	s.keep(*v)
	s.own(v)
	s.finish(t, v)
}

// own says whose the layers of a new VM are, and which keys its disks got.
func (s *Server) own(v *VM) {
	vm := vmOf(s.context(), v.Ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range disksOf(vm.Config.Hardware.Device) {
		v.Disks[i].Key = d.Key
		if l, err := s.layerOf(vm, d); err == nil {
			l.owner, l.arranged = v.Ref, true
		}
	}
}

// finish gives a new VM what its creation cannot.
func (s *Server) finish(t testing.TB, v *VM) {
	t.Helper()
	ctx := s.context()
	vm := vmOf(ctx, v.Ref)
	ctx.AutoUpdate(vm, func() {
		vm.Name = escape(v.Name)
		vm.Config.Name, vm.Summary.Config.Name = vm.Name, vm.Name
		vm.Capability.ChangeTrackingSupported = true
		if v.Also != nil {
			v.Also(&vm.VirtualMachine)
		}
	})
	if !v.On {
		return
	}
	task, err := object.NewVirtualMachine(s.Client, v.Ref).PowerOn(context.Background())
	if err == nil {
		err = task.Wait(context.Background())
	}
	if err != nil {
		t.Fatalf("power %q on: %v", v.Name, err)
	}
}

// host is the host of a name, or the first.
func (s *Server) host(t testing.TB, name string) *simulator.HostSystem {
	t.Helper()
	for _, e := range s.entities("HostSystem") {
		if name == "" || e.Entity().Name == name {
			return e.(*simulator.HostSystem)
		}
	}
	t.Fatalf("there is no host %q", name)
	return nil
}

// vmFolder is a folder for VMs, which is made if it is not there.
func (s *Server) vmFolder(t testing.TB, dc *simulator.Datacenter, name string) *object.Folder {
	t.Helper()
	folder := dc.VmFolder
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r == '/' }) {
		folder = s.subfolder(t, folder, part)
	}
	return object.NewFolder(s.Client, folder)
}

func (s *Server) subfolder(t testing.TB, parent types.ManagedObjectReference, name string) types.ManagedObjectReference {
	t.Helper()
	children := s.Model.Map().Get(parent).(*simulator.Folder).ChildEntity
	if e := s.Model.Map().FindByName(escape(name), children); e != nil {
		return e.Reference()
	}
	f, err := object.NewFolder(s.Client, parent).CreateFolder(context.Background(), name)
	if err != nil {
		t.Fatalf("make the folder %q: %v", name, err)
	}
	return f.Reference()
}
