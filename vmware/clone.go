package vmware

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// clone is the linked clone of a snapshot, made if it is not there.
func (h *Hand) clone(ctx context.Context, self mo.VirtualMachine, source frozenDisk) (mo.VirtualMachine, error) {
	t := Trace{Kind: KindClone, Object: self.Parent.String(), Name: source.vm.Name, Part: source.vm.Self.String(),
		Becomes: mark(h.Migration, source.vm.Self.Value+" "+source.snapshot.Value)}
	noted, err := h.opened(t.same)
	if err != nil {
		return mo.VirtualMachine{}, err
	}
	for _, n := range noted {
		if v, err := h.cloned(ctx, n); err != nil || v != nil {
			return h.adoptClone(v, n, err)
		}
	}
	made, err := h.make(ctx, t, func(ctx context.Context) (string, error) { return h.makeClone(ctx, self, source, t.Becomes) })
	if err != nil {
		return mo.VirtualMachine{}, explain(err, "linked clone of %s", source.vm.Name)
	}
	return h.seenClone(ctx, vmRef(made))
}

func (h *Hand) adoptClone(v *mo.VirtualMachine, t Trace, err error) (mo.VirtualMachine, error) {
	if err != nil {
		return mo.VirtualMachine{}, err
	}
	return *v, h.Ledger.Settle(t.ID, Made, v.Self.Value)
}

// makeClone clones next to our own VM, on its host: that is where the disks are read.
func (h *Hand) makeClone(ctx context.Context, self mo.VirtualMachine, source frozenDisk, name string) (string, error) {
	folder := object.NewFolder(h.Session.client, *self.Parent)
	return h.makes(ctx, "clone", func(ctx context.Context) (*object.Task, error) {
		return h.vm(source.vm.Self).Clone(ctx, folder, name, h.cloneSpec(self, source))
	})
}

// cloneSpec is a clone that shares the snapshot's disks, has no NIC and does not track
// changes.
func (h *Hand) cloneSpec(self mo.VirtualMachine, source frozenDisk) types.VirtualMachineCloneSpec {
	config := types.VirtualMachineConfigSpec{Annotation: stamp(h.Migration), ChangeTrackingEnabled: types.NewBool(false)}
	for _, d := range devicesOf(source.vm) {
		if _, ok := d.(types.BaseVirtualEthernetCard); ok {
			config.DeviceChange = append(config.DeviceChange, &types.VirtualDeviceConfigSpec{
				Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d})
		}
	}
	return types.VirtualMachineCloneSpec{
		Snapshot: &source.snapshot,
		Config:   &config,
		Location: types.VirtualMachineRelocateSpec{
			Pool: self.ResourcePool, Host: self.Runtime.Host,
			DiskMoveType: string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking),
		},
	}
}

var cloneProperties = []string{"name", "config.annotation", "config.template", "config.hardware.device", "runtime.powerState"}

func (h *Hand) seenClone(ctx context.Context, ref types.ManagedObjectReference) (v mo.VirtualMachine, err error) {
	err = h.Session.look(ctx, ref, &v, cloneProperties...)
	return v, explain(err, "clone %s", ref.Value)
}

// cloned finds the clone that a trace is about, by what was made or by its name. Nil: it
// is not there.
func (h *Hand) cloned(ctx context.Context, t Trace) (*mo.VirtualMachine, error) {
	ref := vmRef(t.Made)
	if t.Made == "" {
		folder, err := refOf(t.Object)
		if err != nil {
			return nil, err
		}
		index := *h.Session.client.ServiceContent.SearchIndex
		res, err := methods.FindChild(ctx, h.Session.client, &types.FindChild{This: index, Entity: folder, Name: t.Becomes})
		if gone(err) || err == nil && res.Returnval == nil {
			return nil, nil
		}
		if err != nil {
			return nil, explain(err, "find clone %q", t.Becomes)
		}
		ref = *res.Returnval
	}
	v, err := h.seenClone(ctx, ref)
	if gone(err) {
		return nil, nil
	}
	return &v, err
}

// childOf is the clone's disk that stands on a snapshot's disk.
func childOf(clone mo.VirtualMachine, source frozenDisk) (*types.VirtualDisk, error) {
	for _, d := range disksOf(clone) {
		if files := backingOf(d.Backing).files; len(files) > 1 && files[1] == source.file {
			return d, nil
		}
	}
	return nil, fmt.Errorf("clone %s: %w: none of its disks stands on %s", clone.Name, ErrCannot, source.file)
}

// dropUnneeded destroys a clone if none of its disks is attached any more.
func (h *Hand) dropUnneeded(ctx context.Context, clone string) error {
	users, err := h.opened(func(t Trace) bool { return t.Kind == KindAttach && t.Part == clone })
	if err != nil || len(users) > 0 {
		return err
	}
	return h.takeBack(ctx, func(t Trace) bool { return t.Kind == KindClone && vmRef(t.Made).String() == clone })
}

// dropClone destroys a clone with its own files. It is looked at closely first: Destroy
// deletes whatever disks a VM has.
func (h *Hand) dropClone(ctx context.Context, t Trace) error {
	v, err := h.cloned(ctx, t)
	if err != nil || v == nil {
		return err
	}
	if err := h.destroyable(ctx, *v, t); err != nil {
		return fmt.Errorf("clone %s of %s is not destroyed: %w", v.Name, t.Name, err)
	}
	return explain(h.destroy(ctx, v.Self), "destroy clone %s of %s", v.Name, t.Name)
}

// destroyable says why a VM is not what we made, or is still needed.
func (h *Hand) destroyable(ctx context.Context, v mo.VirtualMachine, t Trace) error {
	switch {
	case v.Name != t.Becomes || v.Config == nil || v.Config.Annotation != stamp(h.Migration):
		return fmt.Errorf("%w: its name or annotation is not what it was given", ErrChanged)
	case v.Config.Template || v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff:
		return fmt.Errorf("%w: it was powered on or made a template", ErrChanged)
	}
	return h.onlyChildren(ctx, v, t.Part)
}

// onlyChildren is an error unless each disk of a clone is a child of its own, on which
// neither the source nor any VM that we attached it to stands.
func (h *Hand) onlyChildren(ctx context.Context, clone mo.VirtualMachine, source string) error {
	users, err := h.users(source)
	if err != nil {
		return err
	}
	var needed []string
	for _, ref := range users {
		files, err := h.Session.filesOf(ctx, ref)
		if err != nil && !gone(err) {
			return err
		}
		needed = append(needed, files...)
	}
	for _, d := range disksOf(clone) {
		files := backingOf(d.Backing).files
		if len(files) < 2 {
			return fmt.Errorf("%w: its disk %d is not a child of the source's", ErrChanged, d.Key)
		}
		if slices.Contains(needed, files[0]) {
			return fmt.Errorf("%w: %s is still a disk of another VM: detach it there without deleting it", ErrBusy, files[0])
		}
	}
	return nil
}

// users are the source of a clone and the VMs that its disks were attached to.
func (h *Hand) users(source string) ([]types.ManagedObjectReference, error) {
	all, err := h.Ledger.Traces()
	if err != nil {
		return nil, err
	}
	names := []string{source}
	for _, t := range all {
		if t.Kind == KindAttach && !slices.Contains(names, t.Object) {
			names = append(names, t.Object)
		}
	}
	var refs []types.ManagedObjectReference
	for _, name := range names {
		ref, err := refOf(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// filesOf are all descriptors that a VM's disks stand on.
func (s *Session) filesOf(ctx context.Context, ref types.ManagedObjectReference) (files []string, err error) {
	var v mo.VirtualMachine
	err = s.look(ctx, ref, &v, "config.hardware.device")
	for _, d := range disksOf(v) {
		files = append(files, backingOf(d.Backing).files...)
	}
	return files, explain(err, "disks of %s", ref.Value)
}

func (h *Hand) destroy(ctx context.Context, ref types.ManagedObjectReference) error {
	_, err := h.run(ctx, h.vm(ref).Destroy)
	if gone(err) {
		return nil
	}
	return err
}
