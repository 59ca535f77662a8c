package watch

import (
	"cmp"
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
	well    time.Time // the last time that all was well
	session testers.Session
	expect  testers.Expect
	limits  limits
}

func (r *run) state(now time.Time) state {
	return state{now: now, alive: r.watch.alive, forged: r.watch.forged, well: r.watch.well, session: r.session, expect: r.spec.Expect, limits: r.limits}
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
	if !b.Up.IsZero() && !s.rebooting() {
		return s.afterwards(b)
	}
	since := b.At
	if s.rebooting() {
		since = s.session.RebootAsked
	}
	if s.now.Sub(since) > s.limits.boot {
		return step{end: testers.Overdue, detail: s.late(b)}
	}
	if s.now.Sub(s.alive) > s.limits.stall {
		return step{end: testers.Hung, detail: fmt.Sprintf("nothing changed on serial, screen, disks and network for %v", s.limits.stall)}
	}
	return step{}
}

// afterwards is what follows once a boot is up: the reboot, and after it the
// time for which the guest is watched.
func (s state) afterwards(b testers.Boot) step {
	if s.session.Probe && len(s.session.Boots) == 1 {
		return step{reboot: true}
	}
	stayed, seen := testers.Stayed(s.expect, s.session)
	switch {
	case stayed && s.session.Probe:
		return step{end: testers.Done, detail: "all was seen, before and after a reboot"}
	case stayed:
		return step{end: testers.Done, detail: "the guest came up without the probe"}
	case s.now.Sub(b.Up) > s.limits.watch+s.limits.settle:
		return step{end: testers.Failed, detail: seen}
	}
	return step{}
}

func (s state) rebooting() bool { return rebooting(s.session) }

// rebooting tells whether the guest was told to reboot and has not yet.
func rebooting(s testers.Session) bool { return !s.RebootAsked.IsZero() && len(s.Boots) == 1 }

// upSince is since when all has been well: a guest that is not well for a moment
// starts anew.
func (s state) upSince() time.Time {
	b := s.session.Boots[len(s.session.Boots)-1]
	switch {
	case s.rebooting():
		return b.Up
	case !s.isUp():
		return time.Time{}
	case b.Up.IsZero():
		return s.now
	}
	return b.Up
}

// isUp tells whether all is well by now.
func (s state) isUp() bool {
	b := s.session.Boots[len(s.session.Boots)-1]
	if s.session.Probe {
		return s.complete(b) && testers.Unwell(s.expect, b) == ""
	}
	return s.cameUp(b)
}

// failed waits after a fatal sign until its cause can be told, and after a
// forged report for what the probe itself has to say.
func (s state) failed(b testers.Boot) (step, bool) {
	if r, ok := b.Last(); ok && r.Kind == wire.Emergency {
		return step{end: testers.Failed, detail: testers.Cause(b)}, true
	}
	if !s.forged.IsZero() && s.now.Sub(s.forged) > s.limits.words {
		return step{end: testers.Failed, detail: "something else than the probe speaks on its port"}, true
	}
	if unwell := s.unwell(b); unwell != "" {
		return step{end: testers.Failed, detail: "up, but not well: " + unwell}, true
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

// unwell is what a boot lacks that has had its time to come up, or "". A guest
// that was well has the same time again: a question may be lost on a busy host.
func (s state) unwell(b testers.Boot) string {
	if s.session.Probe {
		if s.rebooting() || !s.complete(b) || s.now.Sub(s.well) <= s.limits.settle {
			return ""
		}
		return testers.Unwell(s.expect, b)
	}
	prompt, asked := loginPrompt(b)
	if !asked || s.now.Sub(prompt) <= s.limits.settle {
		return ""
	}
	return testers.Unwitnessed(s.expect, b)
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

// cameUp waits for a login prompt after the network was witnessed, but not for
// longer than a while: a guest may show no prompt that we can read.
func (s state) cameUp(b testers.Boot) bool {
	if testers.Unwitnessed(s.expect, b) != "" {
		return false
	}
	_, asked := loginPrompt(b)
	seen := testers.FirstWitnessed(s.expect, b)
	return asked || !seen.IsZero() && s.now.Sub(seen) > s.limits.linger
}

func loginPrompt(b testers.Boot) (at time.Time, ok bool) {
	i := slices.IndexFunc(b.Signs, func(sign testers.Sign) bool { return sign.Name == testers.LoginPrompt })
	if i < 0 {
		return at, false
	}
	return b.Signs[i].At, true
}

func (s state) late(b testers.Boot) string {
	if s.rebooting() {
		return fmt.Sprintf("the guest did not restart within %v", s.limits.boot)
	}
	lacks := testers.Unwitnessed
	if s.session.Probe {
		lacks = testers.Unwell
	}
	return fmt.Sprintf("not up within %v: %s", s.limits.boot, cmp.Or(lacks(s.expect, b), "well now and then, but never for long"))
}
