package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/target"
	"hyper2kvm/pipeline/transfer"
)

// convert copies every disk once, from its overlay to the target, and writes
// the libvirt XML of the machine to run them on.
func (r *Run) convert(ctx context.Context) error {
	if err := r.closeGuest(); err != nil {
		return err
	}
	var disks []transfer.Result
	for i := range r.Machine.Disks {
		result, err := r.copyDisk(ctx, i)
		if err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
		disks = append(disks, result)
	}
	if err := r.sameSources(); err != nil { // what was copied is then no disk that ever was
		return errors.Join(err, r.dropTargets(ctx))
	}
	r.Disks = disks
	if err := r.writeXML(); err != nil {
		return err
	}
	r.Claimed = nil
	return nil
}

// copyDisk copies disk i to a name that is free, and that the record claims
// before anything has it: dropTargets removes what is claimed, nothing else.
func (r *Run) copyDisk(ctx context.Context, i int) (transfer.Result, error) {
	from, err := r.storage.Export(ctx, i)
	if err != nil {
		return transfer.Result{}, err
	}
	to := transfer.Target{Path: r.diskPath(i), Format: r.Options.Format, Size: r.Machine.Disks[i].Size}
	if err := transfer.Vacant(to.Path); err != nil {
		return transfer.Result{}, err
	}
	r.Claimed = append(r.Claimed, i)
	if err := r.save(r.Folder); err != nil {
		return transfer.Result{}, err
	}
	result, err := r.copier.Copy(ctx, from, to, func(p transfer.Progress) {
		r.tell(Event{Stage: "convert", State: Running, Progress: &p, Disk: i})
	})
	if err != nil { // it left nothing
		r.Claimed = r.Claimed[:len(r.Claimed)-1]
	}
	return result, err
}

func (r *Run) diskPath(i int) string {
	return filepath.Join(r.Folder, fmt.Sprintf("%s-disk%d.%s", r.Name, i, r.Options.Format))
}

// XMLPath is where the libvirt XML is.
func (r *Run) XMLPath() string { return filepath.Join(r.Folder, r.Name+".xml") }

func (r *Run) writeXML() error {
	domain := r.domain()
	r.Domain = &domain
	var disks []target.Disk
	for _, d := range r.Disks {
		disks = append(disks, target.Disk{Path: d.Path, Format: d.Format})
	}
	text, err := target.LibvirtXML(domain, disks)
	if err != nil {
		return err
	}
	return replaceFile(r.XMLPath(), []byte(text))
}

// domain is the hardware for the guest as it is after FIX.
func (r *Run) domain() machine.Domain {
	m := r.Machine
	m.Name = r.Name
	return machine.Target(m, capsOf(r.facts(), m))
}

// facts are those of the guest as it is now.
func (r *Run) facts() inspect.Facts {
	if r.Fixed != nil && !r.Undone {
		return *r.Fixed
	}
	return *r.Facts
}

// capsOf is what the guest's kernels can use: all kernels on offer, since a
// guest may be started with any of them. A guest that has no driver for a
// virtual device gets the emulated one that every kernel knows.
func capsOf(f inspect.Facts, m machine.Machine) machine.Caps {
	caps := machine.Caps{Firmware: m.Firmware, SecureBoot: m.SecureBoot, DiskBus: "sata", NICModel: "e1000e"}
	early := func(driver string) bool { return everyKernel(f, driver, inspect.Builtin, inspect.InInitrd) }
	ever := func(driver string) bool {
		return everyKernel(f, driver, inspect.Builtin, inspect.InInitrd, inspect.OnDisk)
	}
	switch {
	case early("virtio_pci") && early("virtio_blk"):
		caps.DiskBus = "virtio"
	case early("virtio_pci") && early("virtio_scsi") && early("sd_mod"):
		caps.DiskBus = "scsi"
	}
	if ever("virtio_pci") && ever("virtio_net") {
		caps.NICModel = "virtio"
	}
	caps.RNG, caps.Balloon = ever("virtio_rng"), ever("virtio_balloon")
	return caps
}

func everyKernel(f inspect.Facts, driver string, places ...inspect.Where) bool {
	for _, k := range f.Kernels {
		found := false
		for _, p := range places {
			found = found || k.Drivers[driver] == p
		}
		if !found {
			return false
		}
	}
	return len(f.Kernels) > 0
}

// dropTargets removes what an interrupted CONVERT finished or left half made;
// the copies that it did finish are part of no result yet.
func (r *Run) dropTargets(context.Context) error {
	if len(r.Claimed) == 0 {
		return nil
	}
	failed := []error{os.RemoveAll(r.XMLPath())}
	for _, i := range r.Claimed {
		failed = append(failed, transfer.Discard(r.diskPath(i)))
	}
	r.Claimed, r.Disks = nil, nil
	return errors.Join(failed...)
}
