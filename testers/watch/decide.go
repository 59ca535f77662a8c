package watch

import (
	"fmt"
	"slices"
	"time"

	"hyper2kvm/testers"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
)

// state is all that the next step of a session follows from.
type state struct {
	now     time.Time
	alive   time.Time // the last sign of life
	forged  time.Time // when the first line that is not the probe's was seen
	session testers.Session
	expect  testers.Expect
	limits  limits
}

func (r *run) state(now time.Time) state {
	return state{now: now, alive: r.watch.alive, forged: r.watch.forged, session: r.session, expect: r.spec.Expect, limits: r.limits}
}

// step is what happens next: nothing, a reboot, or the end.
type step struct {
	reboot bool
	end    testers.End
	detail string
}

// next is a pure function, so that every end can be tested without a machine.
func next(s state) step {
	b := s.session.Boots[len(s.session.Boots)-1]
	if step, failed := s.failed(b); failed {
		return step
	}
	rebooting := !s.session.RebootAsked.IsZero() && len(s.session.Boots) == 1
	if s.session.Probe && !rebooting && s.complete(b) {
		if unwell := testers.Unwell(s.expect, b); unwell != "" {
			return step{end: testers.Failed, detail: "up, but not well: " + unwell}
		}
		if len(s.session.Boots) == 1 {
			return step{reboot: true}
		}
		return step{end: testers.Done, detail: "all was seen, before and after a reboot"}
	}
	if !s.session.Probe && s.cameUp(b) {
		return step{end: testers.Done, detail: "the guest came up without the probe"}
	}
	since := b.At
	if rebooting {
		since = s.session.RebootAsked
	}
	if s.now.Sub(since) > s.limits.boot {
		return step{end: testers.Overdue, detail: s.late(b, rebooting)}
	}
	if s.now.Sub(s.alive) > s.limits.stall {
		return step{end: testers.Hung, detail: fmt.Sprintf("nothing changed on serial, screen, disks and network for %v", s.limits.stall)}
	}
	return step{}
}

// failed waits after a fatal sign until its cause can be told, and after a
// forged report for the probe itself.
func (s state) failed(b testers.Boot) (step, bool) {
	if r, ok := b.Last(); ok && r.Kind == wire.Emergency {
		return step{end: testers.Failed, detail: testers.Cause(b)}, true
	}
	if !s.forged.IsZero() && len(b.Reports) == 0 && s.now.Sub(s.forged) > s.limits.settle {
		return step{end: testers.Failed, detail: "something else speaks on the probe's port, and the probe does not"}, true
	}
	sign, fatal := testers.Fatal(b.Signs)
	wait := s.limits.words
	if !s.session.Probe || !sign.Emergency() {
		wait /= 4 // no report will tell the cause
	}
	if !fatal || s.now.Sub(sign.At) < wait {
		return step{}, false
	}
	return step{end: testers.Failed, detail: sign.String()}, true
}

// complete tells whether a boot with the probe has shown everything, or has had
// its time to. What is missing may still come as long as systemd has work to do:
// a large disk is checked before it is mounted.
func (s state) complete(b testers.Boot) bool {
	if testers.Settled(s.expect, b) {
		return true
	}
	if last, ok := b.Last(); ok && last.State == "starting" && testers.Unwell(s.expect, b) != "" {
		return false
	}
	i := slices.IndexFunc(b.Reports, func(r probe.Received) bool { return r.Kind == wire.Reached })
	return i >= 0 && s.now.Sub(b.Reports[i].At) > s.limits.settle
}

// cameUp waits for a login prompt after the network was witnessed, and for the
// network after a login prompt, but for neither longer than a while: a guest
// may show no prompt that we can read, or fail after its network came up.
func (s state) cameUp(b testers.Boot) bool {
	seen := testers.FirstWitnessed(s.expect, b)
	i := slices.IndexFunc(b.Signs, func(sign testers.Sign) bool { return sign.Name == testers.LoginPrompt })
	if testers.Witnessed(s.expect, b) && i >= 0 {
		return true
	}
	if i >= 0 {
		return s.now.Sub(b.Signs[i].At) > s.limits.settle
	}
	return !seen.IsZero() && s.now.Sub(seen) > s.limits.linger
}

func (s state) late(b testers.Boot, rebooting bool) string {
	if rebooting {
		return fmt.Sprintf("the guest did not restart within %v", s.limits.boot)
	}
	cause := testers.Cause(b)
	if unwell := testers.Unwell(s.expect, b); s.session.Probe && unwell != "" {
		cause = unwell
	}
	return fmt.Sprintf("not up within %v: %s", s.limits.boot, cause)
}
