package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/linux"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/durable"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/watch"
)

// Hardware that a guest is tested on.
const (
	OnKVM    = ""       // the emitted domain
	OnVMware = "vmware" // as near to the source's hardware as QEMU has it
)

// test boots throwaway overlays of the result and judges what is seen: once
// with the probe inside, with one reboot, and once as it will be delivered.
func (r *Run) test(ctx context.Context) (err error) {
	if r.Accel, err = r.accel(ctx); err != nil { // the host may be another than INSPECT's
		return err
	}
	if err := os.RemoveAll(r.evidence()); err != nil {
		return err
	}
	domain := r.testDomain()
	if err := domain.Fits(); err != nil {
		return fmt.Errorf("%w: %w", ErrBlocked, err)
	}
	r.Domain = &domain
	expect := expectations(*r.Facts, r.facts(), r.Machine)
	expect.Damaged = damagedDevices(r.Checks.Before)
	r.Expect = &expect
	probed, err := r.session(ctx, "probe", true)
	if err != nil {
		return err
	}
	clean := testers.Session{End: probed.End, Detail: "not booted, since the guest with the probe did not come up"}
	if probed.End == testers.Done {
		if clean, err = r.session(ctx, "clean", false); err != nil {
			return err
		}
	}
	if err := r.outOfDate(ctx); err != nil {
		return err
	}
	outcome := testers.Judge(expect, probed, clean)
	r.Outcome = &outcome
	if err := r.keepScreenshot(probed); err != nil {
		return err
	}
	if !outcome.Proved {
		return fmt.Errorf("%w: %s", ErrNotProved, outcome.Cause)
	}
	return nil
}

// outOfDate notices a source that changed while what was made of it was tested: that is
// not called proved. Files are copied by then and may be gone, and a source that cannot
// be asked is as it was, as far as is known.
func (r *Run) outOfDate(ctx context.Context) error {
	if _, here := r.origin.(files); here {
		return nil
	}
	err := r.sameSources(ctx)
	if err != nil && !errors.Is(err, ErrSourceChanged) {
		r.unsure(fmt.Errorf("%w while its result was tested: %w", ErrUnsure, err))
		return nil
	}
	return err
}

func (r *Run) testDomain() machine.Domain {
	if r.Options.Hardware == OnVMware {
		m := r.Machine
		m.Name = r.Name
		return machine.Control(m)
	}
	return r.domain()
}

// session boots one throwaway overlay, with or without the probe in it.
func (r *Run) session(ctx context.Context, name string, withProbe bool) (_ testers.Session, err error) {
	storage, release, err := r.throwaway(ctx, name)
	if err != nil {
		return testers.Session{}, err
	}
	defer func() { err = errors.Join(err, release(context.WithoutCancel(ctx))) }()
	spec := watch.Spec{Domain: *r.Domain, Accel: r.Accel.Name, Whole: needsWhole(r.facts().OS), Expect: *r.Expect, Dir: filepath.Join(r.evidence(), name), Daemon: r.Options.Connect}
	if r.Options.With == WithLibvirt {
		if spec.Emitted, err = r.emitted(); err != nil {
			return testers.Session{}, err
		}
	}
	if spec.Memory, err = affordable(r.Domain.Memory); err != nil {
		return testers.Session{}, err
	}
	if withProbe {
		if spec.Key, err = probe.NewKey(); err != nil {
			return testers.Session{}, err
		}
		r.tell(Event{Stage: "test", State: Running, Text: "put the probe into a throwaway overlay"})
		err = r.inGuest(ctx, storage, r.checkResult, func(_ context.Context, g guest.Guest) error {
			return injectProbe(g, fixer.Input{Facts: r.facts(), Machine: r.Machine}, spec.Key)
		})
		if err != nil {
			return testers.Session{}, fmt.Errorf("put the probe into the guest: %w", err)
		}
	}
	spec.Passphrases = passphrases(r.facts(), r.keys)
	for i := range storage.Disks() {
		e, err := storage.Export(ctx, i)
		if err != nil {
			return testers.Session{}, err
		}
		spec.Disks = append(spec.Disks, watch.Disk{Socket: e.Socket, Export: e.Name})
	}
	r.tell(Event{Stage: "test", State: Running, Text: "boot " + map[bool]string{true: "with the probe, and reboot once", false: "once more, as it will be delivered"}[withProbe]})
	spec.Progress = func(text string) { r.tell(Event{Stage: "test", State: Running, Text: text}) }
	seen, err := r.machines[r.Options.With].boot(ctx, spec)
	if withProbe {
		seen.Filesystems = forTesters(r.Checks.Result)
	}
	return seen, err
}

// checkResult lets the file systems that are booted be checked: those of the
// converted disks, through an overlay.
func (r *Run) checkResult(ctx context.Context, g guest.Guest) (err error) {
	r.Checks.Result, err = r.check(ctx, g, "test", union(mounted(r.facts()), r.grownWith()))
	return err
}

// throwaway puts new overlays over the converted disks; in a rehearsal over
// the migration's own overlays, which read from the source.
func (r *Run) throwaway(ctx context.Context, name string) (*disk.Storage, func(context.Context) error, error) {
	overlay := func(i int) string { return r.work(fmt.Sprintf("test-%s%d.qcow2", name, i)) }
	drop := func() error {
		var failed []error
		for i := range r.Machine.Disks {
			failed = append(failed, os.RemoveAll(overlay(i)))
		}
		return errors.Join(failed...)
	}
	if len(r.Disks) > 0 {
		storage, release, err := r.overTargets(ctx, overlay)
		if err != nil {
			return nil, nil, err
		}
		return storage, func(ctx context.Context) error { return errors.Join(release(ctx), drop()) }, nil
	}
	if err := r.closeGuest(); err != nil {
		return nil, nil, err
	}
	var exports []disk.Export
	for i := range r.Machine.Disks {
		e, err := r.storage.Export(ctx, i)
		if err != nil {
			return nil, nil, err
		}
		exports = append(exports, e)
	}
	storage, err := r.overlays(ctx, exports, overlay)
	if err != nil {
		return nil, nil, err
	}
	return storage, func(ctx context.Context) error { return errors.Join(storage.Close(ctx), drop()) }, nil
}

// injectProbe writes the probe and its key into the guest, and makes its kernels
// speak on the serial port too, so that last words come as text.
func injectProbe(g guest.Guest, in fixer.Input, key []byte) error {
	files, err := probe.Files(key)
	if err != nil {
		return err
	}
	v := guest.NewView(g)
	v.As("test/probe", "the boot proof is reported from inside, in a throwaway overlay alone")
	for _, f := range files {
		if err := writeProbe(v, f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := linux.AddArguments(v, in, probe.Consoles, probe.SerialConsole); err != nil {
		return err
	}
	_, err = guest.Apply(g, v.Changes())
	return err
}

func writeProbe(v *guest.View, f probe.File) error {
	switch {
	case f.Mode&fs.ModeSymlink != 0:
		return v.Link(f.LinkTo, f.Path)
	case f.Mode.IsDir():
		return nil // made with what is in it
	}
	if err := v.Write(f.Path, f.Data); err != nil {
		return err
	}
	return v.SetMode(f.Path, f.Mode.Perm())
}

// keepScreenshot puts the proof's last picture beside the disks.
func (r *Run) keepScreenshot(s testers.Session) error {
	if len(s.Screens) == 0 {
		return nil
	}
	picture, err := os.ReadFile(filepath.Join(r.evidence(), "probe", s.Screens[len(s.Screens)-1]))
	if err != nil {
		return err
	}
	return durable.Write(r.screenshot(), picture)
}

// Retest boots the converted disks of a finished migration once more, with
// WithQEMU or WithLibvirt and the URI of its daemon.
func (r *Run) Retest(ctx context.Context, with, connect string) error {
	if r.halfUndone() {
		return fmt.Errorf("%w: an undo of it was interrupted; run undo again first", ErrRecord)
	}
	r.Options.With, r.Options.Connect = with, connect
	if err := r.Options.check(); err != nil {
		return err
	}
	if err := r.machines[with].ready(ctx, connect); err != nil {
		return err
	}
	record := r.Stage("test")
	*record = Record{Name: "test", State: Running, Began: time.Now().UTC()}
	err := r.test(ctx)
	record.Took, record.State = time.Since(record.Began), Done
	if err != nil {
		record.State, record.Reason = Failed, err.Error()
	}
	return errors.Join(err, r.save(r.Folder), os.RemoveAll(r.work("")))
}
