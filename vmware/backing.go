package vmware

import (
	"context"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// backing is what a virtual disk stands on, whichever kind it is.
type backing struct {
	files     []string // datastore paths, the nearest first
	datastore *types.ManagedObjectReference
	mode      string
	uuid      string
	changeID  string
	plain     bool // a file that another VM can have as its disk
}

// mostParents bounds the chain that a server tells of; its own limit is 32.
const mostParents = 256

// backingOf reads a disk's backing.
func backingOf(info types.BaseVirtualDeviceBackingInfo) (b backing) {
	switch disk := info.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		b = backing{mode: disk.DiskMode, uuid: disk.Uuid, changeID: disk.ChangeId, datastore: disk.Datastore, plain: true}
		for ; disk != nil && len(b.files) < mostParents; disk = disk.Parent {
			b.files = append(b.files, disk.FileName)
		}
	case *types.VirtualDiskSeSparseBackingInfo:
		b = backing{mode: disk.DiskMode, uuid: disk.Uuid, changeID: disk.ChangeId, datastore: disk.Datastore, plain: true}
		for ; disk != nil && len(b.files) < mostParents; disk = disk.Parent {
			b.files = append(b.files, disk.FileName)
		}
	case types.BaseVirtualDeviceFileBackingInfo:
		file := disk.GetVirtualDeviceFileBackingInfo()
		b = backing{files: []string{file.FileName}, datastore: file.Datastore}
	}
	return b
}

// disksOf are a VM's disks.
func disksOf(v mo.VirtualMachine) []*types.VirtualDisk { return disksAmong(devicesOf(v)) }

func disksAmong(devices []types.BaseVirtualDevice) (list []*types.VirtualDisk) {
	for _, d := range devices {
		if disk, ok := d.(*types.VirtualDisk); ok {
			list = append(list, disk)
		}
	}
	return list
}

// devicesIn are a VM's devices in a snapshot, or as it has them now.
func (s *Session) devicesIn(ctx context.Context, vm, snapshot string) ([]types.BaseVirtualDevice, error) {
	if snapshot == "" {
		var v mo.VirtualMachine
		err := s.look(ctx, vmRef(vm), &v, "config.hardware.device")
		return devicesOf(v), explain(err, "devices of %s", vm)
	}
	var snap mo.VirtualMachineSnapshot
	err := s.look(ctx, snapshotRef(snapshot), &snap, "config")
	return snap.Config.Hardware.Device, explain(err, "devices of %s in %s", vm, snapshot)
}

func (s *Session) disksIn(ctx context.Context, vm, snapshot string) ([]*types.VirtualDisk, error) {
	devices, err := s.devicesIn(ctx, vm, snapshot)
	return disksAmong(devices), err
}
