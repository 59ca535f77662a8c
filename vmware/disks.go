package vmware

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// longest bounds a chain of files. VMware's own limit is 32 snapshots, and a linked
// clone may stand on as many again.
//
// Source: VMware KB 1025279, "Best practices for using VMware snapshots".
const longest = 255

// diskOf is a disk on its controller.
func diskOf(v *types.VirtualDisk, c controller, p *places) Disk {
	d := Disk{
		Key: v.Key, Label: label(v), Bus: c.bus, Controller: c.number, Model: c.model, BusSharing: c.sharing,
		Size: v.CapacityInBytes, Filters: v.Iofilter, Reachable: true,
	}
	if d.Size == 0 {
		d.Size = v.CapacityInKB << 10
	}
	if v.UnitNumber != nil {
		d.Unit = int(*v.UnitNumber)
	}
	if v.NativeUnmanagedLinkedClone != nil {
		d.LinkedClone = *v.NativeUnmanagedLinkedClone
	}
	d.backing(v.Backing)
	d.datastore(v.Backing, p)
	if d.Sharing == "sharingNone" {
		d.Sharing = ""
	}
	return d
}

// backing notes what a disk's data is in.
func (d *Disk) backing(b types.BaseVirtualDeviceBackingInfo) {
	switch b := b.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		d.Kind, d.Mode, d.UUID, d.ChangeID, d.Sharing = "flat", b.DiskMode, b.Uuid, b.ChangeId, b.Sharing
		d.Thin, d.Encrypted = yes(b.ThinProvisioned), b.KeyId != nil
		d.Files = chain(b, func(b *types.VirtualDiskFlatVer2BackingInfo) (string, *types.VirtualDiskFlatVer2BackingInfo) {
			return b.FileName, b.Parent
		})
	case *types.VirtualDiskSeSparseBackingInfo:
		d.Kind, d.Mode, d.UUID, d.ChangeID, d.Thin, d.Encrypted = "seSparse", b.DiskMode, b.Uuid, b.ChangeId, true, b.KeyId != nil
		d.Files = chain(b, func(b *types.VirtualDiskSeSparseBackingInfo) (string, *types.VirtualDiskSeSparseBackingInfo) {
			return b.FileName, b.Parent
		})
	case *types.VirtualDiskSparseVer2BackingInfo:
		d.Kind, d.Mode, d.UUID, d.ChangeID, d.Thin, d.Encrypted = "sparse", b.DiskMode, b.Uuid, b.ChangeId, true, b.KeyId != nil
		d.Files = chain(b, func(b *types.VirtualDiskSparseVer2BackingInfo) (string, *types.VirtualDiskSparseVer2BackingInfo) {
			return b.FileName, b.Parent
		})
	default:
		d.otherBacking(b)
	}
}

// otherBacking notes a device of the host, or a kind of file from before ESX 4.
func (d *Disk) otherBacking(b types.BaseVirtualDeviceBackingInfo) {
	switch b := b.(type) {
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		d.Kind, d.Mode, d.UUID, d.ChangeID, d.Sharing, d.Device = "rdm-virtual", b.DiskMode, b.Uuid, b.ChangeId, b.Sharing, b.DeviceName
		if b.CompatibilityMode == string(types.VirtualDiskCompatibilityModePhysicalMode) {
			d.Kind = "rdm-physical"
		}
		d.Files = chain(b, func(b *types.VirtualDiskRawDiskMappingVer1BackingInfo) (string, *types.VirtualDiskRawDiskMappingVer1BackingInfo) {
			return b.FileName, b.Parent
		})
	case *types.VirtualDiskPartitionedRawDiskVer2BackingInfo:
		d.raw(b.VirtualDiskRawDiskVer2BackingInfo)
	case *types.VirtualDiskRawDiskVer2BackingInfo:
		d.raw(*b)
	case *types.VirtualDiskLocalPMemBackingInfo:
		d.Kind, d.Mode, d.UUID, d.Files = "pmem", b.DiskMode, b.Uuid, []string{b.FileName}
	case *types.VirtualDiskFlatVer1BackingInfo:
		d.Kind, d.Mode = "flat", b.DiskMode
		d.Files = chain(b, func(b *types.VirtualDiskFlatVer1BackingInfo) (string, *types.VirtualDiskFlatVer1BackingInfo) {
			return b.FileName, b.Parent
		})
	case *types.VirtualDiskSparseVer1BackingInfo:
		d.Kind, d.Mode, d.Thin = "sparse", b.DiskMode, true
		d.Files = chain(b, func(b *types.VirtualDiskSparseVer1BackingInfo) (string, *types.VirtualDiskSparseVer1BackingInfo) {
			return b.FileName, b.Parent
		})
	}
}

func (d *Disk) raw(b types.VirtualDiskRawDiskVer2BackingInfo) {
	d.Kind, d.UUID, d.ChangeID, d.Sharing, d.Device = "raw", b.Uuid, b.ChangeId, b.Sharing, b.DeviceName
	if b.DescriptorFileName != "" {
		d.Files = []string{b.DescriptorFileName}
	}
}

// chain are the files that a disk stands on, its own first.
func chain[B any](b *B, step func(*B) (string, *B)) (files []string) {
	for b != nil && len(files) < longest {
		file, parent := step(b)
		files, b = append(files, file), parent
	}
	return files
}

// datastore notes where a disk's newest file is.
func (d *Disk) datastore(b types.BaseVirtualDeviceBackingInfo, p *places) {
	if len(d.Files) > 0 {
		d.Datastore, _, _ = strings.Cut(strings.TrimPrefix(d.Files[0], "["), "]")
	}
	file, ok := b.(types.BaseVirtualDeviceFileBackingInfo)
	if !ok {
		return
	}
	if on := file.GetVirtualDeviceFileBackingInfo().Datastore; on != nil {
		if at, ok := p.of[*on]; ok {
			d.Datastore, d.Reachable = unescaped(at.name), !at.lost
		}
	}
}
