package vmware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/proc"
)

// Attached is another VM's disk that is a disk of our own VM.
type Attached struct {
	UUID       string // of the disk, as the server spells it; the kernel's serial has no dashes
	File       string // its descriptor, a datastore path
	Controller int32  // the bus number of our VM's controller
	Unit       int32
	// Warning is what people must know as long as it is attached.
	Warning string
}

const deleteWarning = "Do not use \"Delete from disk\" on the appliance's VM while disks of other VMs are attached to it: " +
	"that would delete their files too. Wait until the migrations have ended, or use \"Remove from inventory\"."

// Attach makes a disk of a VM's snapshot a disk of our own VM, in a way in which nothing
// that is written to it is kept. As VMware documents it for backups, a linked clone of
// the snapshot is made, which is never powered on, and its disk is attached.
// Source: VMware, Virtual Disk Development Kit Programming Guide, "HotAdd transport".
//
// All disks of a snapshot share a clone; the last Detach destroys it.
func (h *Hand) Attach(ctx context.Context, own, vm, snapshot string, key int32) (Attached, error) {
	h.hotadd.Lock()
	defer h.hotadd.Unlock()
	self, err := h.Session.attachable(ctx, own)
	if err != nil {
		return Attached{}, err
	}
	source, err := h.frozen(ctx, self, vm, snapshot, key)
	if err != nil {
		return Attached{}, err
	}
	clone, err := h.clone(ctx, self, source)
	if err != nil {
		return Attached{}, err
	}
	return h.attach(ctx, own, source, clone)
}

// attachable is our own VM, if disks can be attached to it.
func (s *Session) attachable(ctx context.Context, own string) (v mo.VirtualMachine, err error) {
	err = s.look(ctx, vmRef(own), &v, "name", "parent", "resourcePool", "runtime.host", "config.hardware.device",
		"config.changeTrackingEnabled", "config.flags")
	v.Name = unescaped(v.Name)
	switch {
	case err != nil:
		return v, explain(err, "our own VM %s", own)
	case v.Config == nil || v.Parent == nil || v.ResourcePool == nil || v.Runtime.Host == nil:
		return v, fmt.Errorf("our own VM %s: %w: the server does not tell where it is: take it out of its vApp, and let the user see its folder and pool", own, ErrCannot)
	case v.Config.ChangeTrackingEnabled != nil && *v.Config.ChangeTrackingEnabled:
		return v, fmt.Errorf("our own VM %s: %w: its changed block tracking is on, which locks what is attached to it: switch it off (ctkEnabled = FALSE)", v.Name, ErrCannot)
	case v.Config.Flags.DiskUuidEnabled == nil || !*v.Config.Flags.DiskUuidEnabled:
		return v, fmt.Errorf("our own VM %s: %w: its disks show no serial numbers: set disk.EnableUUID = TRUE and restart it", v.Name, ErrCannot)
	}
	return v, nil
}

// frozenDisk is a disk as it is in a snapshot.
type frozenDisk struct {
	vm       mo.VirtualMachine
	snapshot types.ManagedObjectReference
	key      int32
	file     string
}

// frozen finds a disk in a snapshot, if our own VM can have it.
func (h *Hand) frozen(ctx context.Context, self mo.VirtualMachine, vm, snapshot string, key int32) (frozenDisk, error) {
	f := frozenDisk{snapshot: snapshotRef(snapshot), key: key}
	v, err := h.Session.snapshots(ctx, vm)
	if err != nil {
		return f, err
	}
	f.vm = v
	b, err := h.Session.diskOf(ctx, vm, snapshot, key)
	switch {
	case err != nil:
		return f, err
	case !b.plain || len(b.files) == 0:
		return f, fmt.Errorf("disk %d of %s: %w: only disks that are files can be attached", key, v.Name, ErrCannot)
	case strings.HasPrefix(b.mode, "independent"):
		return f, fmt.Errorf("disk %d of %s: %w: it is independent, and in no snapshot", key, v.Name, ErrCannot)
	}
	f.file = b.files[0]
	if err := h.reaches(ctx, self, b); err != nil {
		return f, err
	}
	return f, h.Session.roomy(ctx, v, leastSpare) // nothing is written to the clone
}

// reaches is ErrCannot if our own VM's host does not see a disk's datastore.
func (h *Hand) reaches(ctx context.Context, self mo.VirtualMachine, b backing) error {
	var host mo.HostSystem
	if err := h.Session.look(ctx, *self.Runtime.Host, &host, "name", "datastore", "runtime.inMaintenanceMode"); err != nil {
		return explain(err, "our own VM's host")
	}
	if host.Runtime.InMaintenanceMode {
		return fmt.Errorf("%s: %w: take it out of maintenance", host.Name, ErrMaintenance)
	}
	if b.datastore == nil || !slices.Contains(host.Datastore, *b.datastore) {
		return fmt.Errorf("%s: %w: our own VM's host %s does not see its datastore", b.files[0], ErrCannot, host.Name)
	}
	return nil
}

// diskOf is a disk's backing, in a snapshot, or as the VM has it now.
func (s *Session) diskOf(ctx context.Context, vm, snapshot string, key int32) (backing, error) {
	disks, err := s.disksIn(ctx, vm, snapshot)
	if err != nil {
		return backing{}, err
	}
	for _, d := range disks {
		if d.Key == key {
			return backingOf(d.Backing), nil
		}
	}
	return backing{}, fmt.Errorf("disk %d of %s %w", key, vm, ErrGone)
}

// attach adds the clone's disk to our own VM. One migration of all on this machine at a
// time chooses a place there and takes it.
func (h *Hand) attach(ctx context.Context, own string, source frozenDisk, clone mo.VirtualMachine) (a Attached, err error) {
	disk, err := childOf(clone, source)
	if err != nil {
		return Attached{}, err
	}
	file := backingOf(disk.Backing).files[0]
	claim, err := proc.AwaitClaim(ctx, "disks-of-"+h.Session.identity()+"-"+own)
	if err != nil {
		return Attached{}, fmt.Errorf("attach a disk to our own VM: %w", err)
	}
	defer func() { err = errors.Join(err, claim.Close()) }()
	self, err := h.Session.attachable(ctx, own)
	if err != nil {
		return Attached{}, err
	}
	if has := diskWith(self, file); has != nil { // by a process that was killed
		return h.arrived(self, has)
	}
	if err := h.take(ctx, self, disk, clone.Self); err != nil {
		return Attached{}, err
	}
	if self, err = h.Session.attachable(ctx, own); err != nil {
		return Attached{}, err
	}
	return h.arrived(self, diskWith(self, file))
}

// take notes and attaches a disk at a free place.
func (h *Hand) take(ctx context.Context, self mo.VirtualMachine, disk *types.VirtualDisk, clone types.ManagedObjectReference) error {
	free, err := freeSlot(self)
	if err != nil {
		return err
	}
	file := backingOf(disk.Backing).files[0]
	t := Trace{Kind: KindAttach, Object: self.Self.String(), Name: self.Name, Part: clone.String(), Becomes: file}
	_, err = h.make(ctx, t, func(ctx context.Context) (string, error) {
		err := h.reconfigure(ctx, t.Object, addDisk(disk, free))
		return file, explain(err, "attach %s to our own VM %s", file, self.Name)
	})
	return err
}

func (h *Hand) arrived(self mo.VirtualMachine, disk *types.VirtualDisk) (Attached, error) {
	if disk == nil || disk.UnitNumber == nil {
		return Attached{}, fmt.Errorf("our own VM %s: the server attached a disk and does not show it", self.Name)
	}
	b := backingOf(disk.Backing)
	a := Attached{UUID: b.uuid, File: b.files[0], Unit: *disk.UnitNumber, Warning: deleteWarning}
	for _, d := range devicesOf(self) {
		if c, ok := d.(types.BaseVirtualController); ok && d.GetVirtualDevice().Key == disk.ControllerKey {
			a.Controller = c.GetVirtualController().BusNumber
		}
	}
	return a, nil
}

// diskWith is a VM's disk that stands on a file.
func diskWith(v mo.VirtualMachine, file string) *types.VirtualDisk {
	for _, d := range disksOf(v) {
		if slices.Contains(backingOf(d.Backing).files, file) {
			return d
		}
	}
	return nil
}

// addDisk is the change that attaches a disk that is there: no file is made, and what
// is written is thrown away when it is detached.
func addDisk(disk *types.VirtualDisk, at slot) types.VirtualMachineConfigSpec {
	unit := at.unit
	added := &types.VirtualDisk{CapacityInKB: disk.CapacityInKB, CapacityInBytes: disk.CapacityInBytes}
	added.Key, added.ControllerKey, added.UnitNumber = -1, at.controller, &unit
	const mode = string(types.VirtualDiskModeIndependent_nonpersistent)
	switch b := disk.Backing.(type) {
	case *types.VirtualDiskSeSparseBackingInfo:
		added.Backing = &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: b.VirtualDeviceFileBackingInfo, DiskMode: mode}
	case *types.VirtualDiskFlatVer2BackingInfo:
		added.Backing = &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: b.VirtualDeviceFileBackingInfo, DiskMode: mode}
	}
	return types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: added}}}
}

// Detach takes an attached disk from our own VM, and the clone away when it was its last.
func (h *Hand) Detach(ctx context.Context, a Attached) error {
	h.hotadd.Lock()
	defer h.hotadd.Unlock()
	list, err := h.opened(func(t Trace) bool { return t.Kind == KindAttach && t.Becomes == a.File })
	if err != nil || len(list) == 0 {
		return err
	}
	for _, t := range list {
		if err := h.undo(ctx, t); err != nil {
			return err
		}
	}
	return h.dropUnneeded(ctx, list[0].Part)
}

// dropAttached removes a disk from our own VM and leaves its file.
func (h *Hand) dropAttached(ctx context.Context, t Trace) error {
	v, err := h.seen(ctx, t, "config.hardware.device")
	if gone(err) {
		return nil
	}
	if err != nil {
		return explain(err, "disks of our own VM %s", t.Name)
	}
	disk := diskWith(v, t.Becomes)
	if disk == nil {
		return nil
	}
	return explain(h.detach(ctx, t.Object, disk), "detach %s from our own VM %s", t.Becomes, t.Name)
}

func (h *Hand) detach(ctx context.Context, own string, disk *types.VirtualDisk) error {
	// Without a file operation the file stays.
	// Source: vSphere API, VirtualDeviceConfigSpec.fileOperation.
	return h.reconfigure(ctx, own, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: disk}}})
}
