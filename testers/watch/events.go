package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
)

// event follows what QEMU says.
func (r *run) event(ctx context.Context, e qmp.Event, open bool) error {
	if !open {
		r.end(testers.Died, "the machine ended: %s", strings.TrimSpace(r.machine.LastWords()))
		return nil
	}
	if len(r.session.Events) == maxEvents {
		r.end(testers.Failed, "QEMU reported more than %d events", maxEvents)
		return nil
	}
	r.session.Events = append(r.session.Events, e)
	switch e.Name {
	case "RESET":
		return r.reset(ctx, e)
	case "SHUTDOWN":
		end, why := stopped(e)
		r.end(end, "%s", why)
	case "SUSPEND", "SUSPEND_DISK":
		r.end(testers.Stopped, "the guest went to sleep")
	case "GUEST_PANICKED", "GUEST_CRASHLOADED":
		r.end(testers.Panicked, "the guest's kernel panicked")
	case "BLOCK_IO_ERROR":
		r.end(testers.Failed, "a disk's overlay could not be read or written: %s", e.Data)
	}
	return line(r.evidence.qmp, e)
}

// stopped tells a guest that shut itself down from a machine that somebody on the
// host put an end to. Source: QEMU, qapi/run-state.json, SHUTDOWN.
func stopped(e qmp.Event) (end testers.End, why string) {
	var data struct {
		Guest  *bool  `json:"guest"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(e.Data, &data); err == nil && data.Guest != nil && !*data.Guest {
		return testers.Died, "the machine was ended by the host: " + data.Reason
	}
	return testers.Stopped, "the guest shut itself down"
}

// reset begins a new boot, unless only the firmware has run since the last.
func (r *run) reset(ctx context.Context, e qmp.Event) error {
	if err := line(r.evidence.qmp, e); err != nil {
		return err
	}
	if r.port != nil {
		r.port.Restart() // first, so that what is drained is all that came before
	}
	if err := r.drain(); err != nil {
		return err
	}
	r.readSerial(e.At)
	r.witness()
	shown, err := r.shown(ctx)
	if err != nil {
		return r.orDied(err)
	}
	for _, s := range r.segments {
		s.Restart()
	}
	r.watch.partial, r.watch.text, r.watch.typing = "", "", typing{}
	again := e.At.Sub(r.watch.reset) < burst
	r.watch.reset = e.At
	if !shown && again {
		return nil
	}
	if !shown && r.watch.early < firmwareResets {
		r.watch.early++
		return nil
	}
	r.watch.early = 0
	r.session.Boots = append(r.session.Boots, testers.Boot{At: e.At})
	if r.session.RebootAsked.IsZero() || len(r.session.Boots) > 2 {
		r.end(testers.Failed, "the guest restarted by itself")
	}
	r.say("the guest was reset")
	return nil
}

// shown tells whether more than firmware has run in this boot: that reports
// nothing, uses no network of ours, and writes to no disk.
func (r *run) shown(ctx context.Context) (bool, error) {
	blocks, err := r.machine.Blocks(ctx)
	if err != nil {
		return false, err
	}
	wrote := blocks.Writes > r.watch.writes
	r.watch.writes = blocks.Writes
	sent := slices.ContainsFunc(r.boot().Network, func(w lan.Witness) bool { return w.Frames > 0 })
	return wrote || sent || len(r.boot().Reports) > 0, nil
}

// drain takes the reports of before a reset.
func (r *run) drain() error {
	for r.port != nil {
		select {
		case received := <-r.port.Reports():
			if err := r.report(received); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// report keeps an authentic report. When there are too many, the newest
// replaces the one before. What a guest says while it goes down for its reboot
// is a sign of life and nothing to judge: its target is gone, as it should be.
func (r *run) report(received probe.Received) error {
	if received.BootID == "" {
		return nil // the port was closed
	}
	b := r.boot()
	r.watch.alive = received.At
	if rebooting(r.session) {
		return nil
	}
	if len(b.Reports) == maxReports {
		b.Reports[maxReports-1] = received
		return nil
	}
	b.Reports = append(b.Reports, received)
	state := fmt.Sprintf("boot %d: %s, system %s", len(r.session.Boots), received.Kind, received.State)
	if state != r.watch.said {
		r.watch.said = state
		r.say("%s after %.0f s", state, received.Uptime)
	}
	return line(r.evidence.reports, received)
}
