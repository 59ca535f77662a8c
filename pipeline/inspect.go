package pipeline

import (
	"context"
	"fmt"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

// inspect reads the facts from the overlay, whose journals are replayed once, and
// lets every file system that the guest mounts be checked. What was read last, the
// files, is what PLAN finds in memory.
func (r *Run) inspect(ctx context.Context) (err error) {
	if r.Accel, err = r.accel(ctx); err != nil {
		return err
	}
	if err := r.openGuest(ctx); err != nil {
		return err
	}
	if err := r.reconsider(ctx); err != nil {
		return err
	}
	if err := r.keys.Check(r.guest.Topology()); err != nil {
		return err
	}
	facts, err := r.look(ctx, r.checkBefore(ctx))
	if r.mayBeRead(err) {
		if failed := r.fallBack(ctx, fmt.Sprintf("the direct engine could not read this guest: %v", err)); failed != nil {
			return fmt.Errorf("%w (and before it the direct engine: %w)", failed, err)
		}
		facts, err = r.look(ctx, r.checkBefore(ctx))
	}
	if err != nil {
		return r.hint(err)
	}
	if facts, err = r.reconsiderGrowth(ctx, facts); err != nil {
		return err
	}
	r.Facts = &facts
	if r.Machine.Firmware == "" {
		r.Machine.Firmware = facts.Firmware.Used
		r.Machine.Guesses = append(r.Machine.Guesses, "firmware: "+facts.Firmware.Source)
	}
	r.guessNICs()
	return nil
}

// look mounts the guest afresh and reads its facts, with a check before most of them
// unless that is nil.
func (r *Run) look(ctx context.Context, check func(inspect.Facts) error) (inspect.Facts, error) {
	if err := r.guest.UnmountAll(); err != nil {
		return inspect.Facts{}, err
	}
	facts, err := inspect.Checked(ctx, r.guest, r.Machine, r.log, check)
	facts.Topology.Filesystems = r.recalled(facts.Topology.Filesystems)
	return facts, err
}

// checkBefore lets all that the guest mounts be checked, or that may grow.
func (r *Run) checkBefore(ctx context.Context) func(inspect.Facts) error {
	return func(f inspect.Facts) (err error) {
		r.Checks.Before, err = r.check(ctx, r.guest, "inspect", union(mounted(f), r.mayGrowWith(f)))
		return err
	}
}

// mount brings back the guest as INSPECT mounted it, in a process that did not
// inspect it.
func (r *Run) mount(ctx context.Context) error {
	if r.guest != nil {
		return nil
	}
	if err := r.openGuest(ctx); err != nil {
		return err
	}
	return r.remount(ctx, r.guest, *r.Facts)
}

// remount mounts a guest as INSPECT did, for which what was encrypted then must be
// open again.
func (r *Run) remount(ctx context.Context, g guest.Guest, f inspect.Facts) error {
	for _, v := range g.Topology().Volumes {
		if _, opened := f.Filesystem(v.Name); v.Crypt != nil && v.Problem != "" && opened {
			return fmt.Errorf("%w: what is encrypted on %s was open when this guest was inspected: give its key again with --key (%s)", guest.ErrKey, strings.Join(v.On, ", "), v.Problem)
		}
	}
	return inspect.Remount(ctx, g, f)
}

// maxNICs is how many NICs a virtual machine of VMware has at most.
// Source: VMware Configuration Maximums, vSphere 8.
const maxNICs = 10

// guessNICs gives a machine without a record the NICs that its guest is
// configured for by MAC address, or one if it is configured for any.
func (r *Run) guessNICs() {
	if len(r.Machine.NICs) > 0 || r.Machine.Source != machine.Guess {
		return
	}
	seen := map[string]bool{"": true}
	add := func(mac string) {
		if !seen[mac] && len(r.Machine.NICs) < maxNICs {
			seen[mac] = true
			r.Machine.NICs = append(r.Machine.NICs, nic(mac))
		}
	}
	for _, p := range r.Facts.Network.Pins {
		add(p.MAC)
	}
	for _, i := range r.Facts.Network.Interfaces {
		if !i.Idle {
			add(i.MAC)
		}
	}
	if len(r.Machine.NICs) == 0 && len(r.Facts.Network.Stacks) > 0 {
		r.Machine.NICs = append(r.Machine.NICs, nic(madeUpMAC(r.Name)))
	}
}
