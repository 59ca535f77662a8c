package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/durable"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/target"
	"hyper2kvm/pipeline/transfer"
)

// convert copies every disk once, from its overlay to the target, and writes
// the libvirt XML of the machine to run them on. A copy that was interrupted goes
// on where it was: the overlays are as FIX left them.
func (r *Run) convert(ctx context.Context) error {
	if err := r.domain().Fits(); err != nil { // known once FIX has given it drivers
		return fmt.Errorf("%w: %w", ErrBlocked, err)
	}
	if err := r.closeGuest(); err != nil {
		return err
	}
	if err := r.makeFolders(); err != nil { // they go with what a run before this one threw away
		return err
	}
	jobs, err := r.jobs(ctx)
	if err != nil {
		return err
	}
	disks, err := r.copier.Copy(ctx, jobs, func(p transfer.Progress) {
		r.tell(Event{Stage: "convert", State: Running, Progress: &p, Disk: p.Disk})
	})
	changed := r.sameSources(ctx)
	if errors.Is(changed, ErrSourceChanged) { // what was copied is then no disk that ever was
		return errors.Join(changed, r.dropTargets())
	}
	if err = cmp.Or(err, changed); err != nil {
		return err
	}
	r.Disks = disks
	return r.writeXML()
}

// jobs are the copies of the machine's disks, under names that stay the same
// however often the stage begins.
func (r *Run) jobs(ctx context.Context) ([]transfer.Job, error) {
	var jobs []transfer.Job
	for i := range r.Machine.Disks {
		from, err := r.storage.Export(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		jobs = append(jobs, transfer.Job{ID: r.copyID(i), From: from, Beneath: r.storage.Beneath(i), To: r.target(i)})
	}
	return jobs, nil
}

// copyID names the copy of disk i: a file of another migration's is not taken for
// one of this.
func (m *Migration) copyID(i int) string { return fmt.Sprintf("%s disk %d", m.ID, i) }

// target is where disk i goes.
func (r *Run) target(i int) transfer.Target { return r.Migration.target(r.Folder, i) }

// target is where disk i goes of a migration in a folder: into a file there or where its
// storage is mapped to, or to a device that the operator named.
func (m *Migration) target(folder string, i int) transfer.Target {
	to := transfer.Target{Path: m.diskPath(folder, i), Shape: m.Options.Shape, Size: m.Machine.Disks[i].Size}
	if m.Options.Devices[i] != "" {
		to.Device, to.Shape, to.Overwrite = true, disk.Shape{Format: disk.Raw}, m.Options.Overwrite
		to.Beside = filepath.Join(folder, fmt.Sprintf("%s-disk%d", m.Name, i))
	}
	return to
}

func (r *Run) diskPath(i int) string { return r.Migration.diskPath(r.Folder, i) }

func (m *Migration) diskPath(folder string, i int) string {
	if device := m.Options.Devices[i]; device != "" {
		return device
	}
	return filepath.Join(cmp.Or(m.elsewhere(i), folder), fmt.Sprintf("%s-disk%d.%s", m.Name, i, m.Options.Shape.Format))
}

// XMLPath is where the libvirt XML is.
func (r *Run) XMLPath() string { return filepath.Join(r.Folder, r.Name+".xml") }

// writeXML writes the domain, unless libvirt does not know the disks' format.
func (r *Run) writeXML() error {
	domain := r.domain()
	r.Domain = &domain
	return r.emit()
}

// unplug has the result come up without its network: two machines with the same
// addresses would be in the same network, since the source may run again.
func (r *Run) unplug() error {
	if r.Domain == nil || len(r.Disks) == 0 {
		return nil
	}
	for i := range r.Domain.NICs {
		r.Domain.NICs[i].Down = true
	}
	return r.emit()
}

// emit writes the domain that the record has.
func (r *Run) emit() error {
	if r.Options.Shape.Format == disk.VHDX {
		return nil
	}
	var disks []target.Disk
	for _, d := range r.Disks {
		disks = append(disks, target.Disk{Path: d.Path, Format: d.Format})
	}
	text, err := target.LibvirtXML(*r.Domain, disks)
	if err != nil {
		return err
	}
	return durable.Write(r.XMLPath(), []byte(text))
}

// domain is the hardware for the guest as it is after FIX.
func (r *Run) domain() machine.Domain {
	m := r.Options.Target.hardware(r.Machine)
	m.Name = r.Name
	d := machine.Target(m, capsOf(r.facts(), m))
	r.Options.Target.connect(&d, m)
	return d
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

// dropTargets removes what CONVERT made, whole or not.
func (r *Run) dropTargets() error {
	failed := []error{os.RemoveAll(r.XMLPath())}
	for i := range r.Machine.Disks {
		failed = append(failed, transfer.Discard(r.target(i), r.copyID(i)))
	}
	r.Disks = nil
	return errors.Join(append(failed, r.dropElsewhere(r.Folder))...)
}
