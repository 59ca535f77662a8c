package vmwaretest

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// layer is what a datastore has under one descriptor: the base of a disk, with its
// bytes in a flat extent, or a delta that stands on a parent.
type layer struct {
	path     string // its descriptor as a datastore path
	file     string // its descriptor as a file of this machine
	raw      string // a file with the whole disk as the layer has it
	size     int64  // bytes
	uuid     string
	parent   *layer // nil: a base
	owner    types.ManagedObjectReference
	shared   bool // raw is another name of somebody else's file, and is copied before it is written
	made     bool // a delta that a client made as a disk, not one of a snapshot
	stale    bool // the extent of a delta is not what it should be
	arranged bool // the arranger made it, so that nobody else may destroy it
}

// flat is the file of a base's extent.
func flat(descriptor string) string { return strings.TrimSuffix(descriptor, ".vmdk") + "-flat.vmdk" }

// deltaExtent is the file of a delta's extent.
func deltaExtent(descriptor string) string {
	return strings.TrimSuffix(descriptor, ".vmdk") + "-delta.vmdk"
}

// extent is the file of a layer's extent in its datastore.
func (l *layer) extent() string {
	if l.parent == nil {
		return flat(l.file)
	}
	return deltaExtent(l.file)
}

// backingOf is a disk's backing, if it is one with files as our layers have.
func backingOf(d *types.VirtualDisk) *types.VirtualDiskFlatVer2BackingInfo {
	b, _ := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return b
}

// disksOf are the disks among devices that have layers.
func disksOf(devices []types.BaseVirtualDevice) (disks []*types.VirtualDisk) {
	for _, d := range devices {
		if disk, ok := d.(*types.VirtualDisk); ok && backingOf(disk) != nil {
			disks = append(disks, disk)
		}
	}
	return disks
}

// layerOf is the layer that a disk of a VM stands on. Of a disk that the simulator made
// it makes one: the simulator's have descriptors and no bytes. s.mu is held.
func (s *Server) layerOf(vm *simulator.VirtualMachine, d *types.VirtualDisk) (*layer, error) {
	b := backingOf(d)
	file, err := s.file(s.inventoryPath(s.datacenter(vm)), b.FileName)
	if err != nil {
		return nil, err
	}
	if l := cmp.Or(s.became[file], s.layers[file]); l != nil {
		return l, nil
	}
	l := &layer{path: b.FileName, file: file, raw: flat(file), size: sizeOf(d), owner: vm.Self, uuid: b.Uuid}
	if b.Parent != nil {
		return s.adoptChild(vm, l, b.Parent)
	}
	return l, s.writeBase(l)
}

// known is the layer that a disk of a VM stands on, if there is one. s.mu is held.
func (s *Server) known(vm *simulator.VirtualMachine, d *types.VirtualDisk) *layer {
	name := backingOf(d).FileName
	if !s.names(name) {
		return nil // of thousands of VMs few have layers
	}
	file, err := s.file(s.inventoryPath(s.datacenter(vm)), name)
	if err != nil {
		return nil
	}
	return cmp.Or(s.became[file], s.layers[file])
}

// names tells whether a layer is, or was, of that path.
func (s *Server) names(datastorePath string) bool {
	for _, l := range s.layers {
		if l.path == datastorePath {
			return true
		}
	}
	return len(s.became) > 0
}

// adoptChild makes a layer of a disk that was made on another one.
func (s *Server) adoptChild(vm *simulator.VirtualMachine, l *layer, parent *types.VirtualDiskFlatVer2BackingInfo) (*layer, error) {
	on := &types.VirtualDisk{CapacityInBytes: l.size, VirtualDevice: types.VirtualDevice{Backing: parent}}
	p, err := s.layerOf(vm, on)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(l.raw); err != nil && !os.IsNotExist(err) { // the simulator's
		return nil, err
	}
	c, err := s.child(p, l.path, l.file, vm.Self)
	if err == nil {
		c.madeByClient()
	}
	return c, err
}

// newDiskUUID is as ESXi makes them up.
func newDiskUUID() string { return "6000c29" + uuid.NewString()[7:] }

func sizeOf(d *types.VirtualDisk) int64 {
	if d.CapacityInBytes != 0 {
		return d.CapacityInBytes
	}
	return d.CapacityInKB << 10
}

// writeBase writes a base's descriptor, and makes its extent as long as the disk.
func (s *Server) writeBase(l *layer) error {
	f, err := os.OpenFile(l.raw, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(l.size); err != nil {
		return err
	}
	s.layers[l.file] = l
	return os.WriteFile(l.file, []byte(baseDescriptor(l)), 0o600)
}

// child puts a delta on a layer. What was written to the layer stays as it is from now on.
func (s *Server) child(parent *layer, datastorePath, file string, owner types.ManagedObjectReference) (*layer, error) {
	l := &layer{path: datastorePath, file: file, size: parent.size, parent: parent, owner: owner, uuid: parent.uuid, arranged: parent.arranged, stale: true,
		raw: filepath.Join(s.folder, fmt.Sprintf("%d.raw", s.nextRaw()))}
	if err := l.share(parent); err != nil {
		return nil, err
	}
	if err := l.writeExtent(); err != nil {
		return nil, err
	}
	s.layers[file] = l
	return l, os.WriteFile(file, []byte(deltaDescriptor(l)), 0o600)
}

func (s *Server) nextRaw() int {
	s.raws++
	return s.raws
}

// madeByClient says that a delta is a disk of its own.
func (l *layer) madeByClient() { l.made, l.arranged, l.uuid = true, false, newDiskUUID() }

// snapshotDelta puts a delta on a layer under the next free name beside it:
// web01.vmdk, web01-000001.vmdk, web01-000002.vmdk.
func (s *Server) snapshotDelta(on *layer) (*layer, error) {
	stem := deltaNumber.ReplaceAllString(strings.TrimSuffix(on.path, ".vmdk"), "")
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s-%06d.vmdk", stem, n)
		file := filepath.Join(filepath.Dir(on.file), path.Base(name))
		if _, err := os.Lstat(file); os.IsNotExist(err) {
			return s.child(on, name, file, on.owner)
		}
	}
}

// forget removes a layer and its files.
func (s *Server) forget(l *layer) error {
	delete(s.layers, l.file)
	for _, name := range []string{l.file, l.extent(), l.raw} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// children are the layers that stand on one.
func (s *Server) children(l *layer) (all []*layer) {
	for _, c := range s.layers {
		if c.parent == l {
			all = append(all, c)
		}
	}
	return all
}

// restack is a disk's backing, with what it was but another chain below.
func (s *Server) restack(b *types.VirtualDiskFlatVer2BackingInfo, l *layer) *types.VirtualDiskFlatVer2BackingInfo {
	if l == nil {
		return nil
	}
	n := *b
	n.FileName, n.Uuid, n.Parent = l.path, l.uuid, nil
	n.DeltaDiskFormat, n.DeltaDiskFormatVariant = "", ""
	if l.parent != nil {
		n.DeltaDiskFormat, n.DeltaDiskFormatVariant = "redoLogFormat", "vmfsSparseVariant"
		below := n
		below.ChangeId = ""
		n.Parent = s.restack(&below, l.parent)
	}
	n.Datastore = s.datastoreOf(l)
	return &n
}

// datastoreOf is the datastore that a layer lies on.
func (s *Server) datastoreOf(l *layer) *types.ManagedObjectReference {
	var p object.DatastorePath
	p.FromString(l.path)
	for _, e := range s.entities("Datastore") {
		ds := e.(*simulator.Datastore)
		if ds.Name == p.Datastore && strings.HasPrefix(l.file, ds.Summary.Url+"/") {
			return &ds.Self
		}
	}
	return nil
}
