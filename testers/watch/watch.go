package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
	"hyper2kvm/testers/screen"
)

const (
	// lookEvery is the time between two looks at the machine; the costly ones,
	// at its screen and its disks' counters, come every tenth time.
	lookEvery = time.Second
	costly    = 10
	// askEvery is the time from one report to the next challenge.
	askEvery = 5 * time.Second
	// askTime bounds one look at the machine: one that is emulated on a busy
	// host is slow, one that does not answer at all is broken.
	askTime = time.Minute
	// dying is how long it may take until a machine that no longer answers is
	// known to have ended.
	dying = 5 * time.Second
	// maxEvents and maxReports bound what one session keeps.
	maxEvents  = 10_000
	maxReports = 200
	// firmwareResets is how many resets a boot may begin with: shim's fallback
	// restarts a machine whose boot entries it has written (shim, fallback.c).
	firmwareResets = 2
	// burst is within what time several resets are one: Linux tries one way to
	// restart after the other until it is gone (Linux, arch/x86/kernel/reboot.c),
	// and four were seen within 90 ms.
	burst = 5 * time.Second
)

// watch is what an observation remembers between two looks.
type watch struct {
	looks    int
	typing   typing
	partial  string    // the serial console's unfinished line
	text     string    // the last text screen
	early    int       // resets before this boot showed anything
	writes   int64     // to the disks, up to the last reset
	reset    time.Time // the last one
	asked    time.Time // the last challenge
	said     string    // the last progress
	alive    time.Time // the last sign of life
	well     time.Time // the last time that all was well
	forged   time.Time // the first line on the probe's port that is not its own
	activity activity
}

// activity is what changes as long as a guest does anything.
type activity struct {
	serial, frames int64
	blocks         Operations
	text           string
}

// observe follows the machine until its session has an end.
func (r *run) observe(ctx context.Context) error {
	r.watch.alive = time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var reports <-chan probe.Received
	if r.port != nil {
		reports = r.port.Reports()
	}
	for r.session.End == "" {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, open := <-r.machine.Events():
			err = r.event(ctx, e, open)
		case received := <-reports:
			err = r.report(received)
		case <-tick.C:
			err = r.tick(ctx)
		}
		if err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

func (r *run) boot() *testers.Boot { return &r.session.Boots[len(r.session.Boots)-1] }

func (r *run) end(end testers.End, format string, args ...any) {
	if r.session.End == "" {
		r.session.End, r.session.Detail = end, fmt.Sprintf(format, args...)
	}
}

// tick looks at the machine and decides whether its session has an end.
func (r *run) tick(ctx context.Context) error {
	now := time.Now()
	r.witness()
	r.readSerial(now)
	if err := r.answer(ctx, serialConsole{r}, r.watch.typing.heard, now); err != nil {
		return r.orDied(err)
	}
	if r.port != nil && r.port.Forged() > 0 && r.watch.forged.IsZero() {
		r.watch.forged = now
	}
	r.watch.looks++
	if r.watch.looks%costly == 0 {
		if err := r.lookAround(ctx, now); err != nil {
			return r.orDied(err)
		}
		if err := r.answer(ctx, keyboard{r.machine}, r.watch.text, now); err != nil {
			return r.orDied(err)
		}
	}
	r.unanswered(now)
	if err := r.ask(now); err != nil {
		return r.orDied(err)
	}
	r.decide(now)
	return nil
}

// orDied makes an end of the session out of a machine that is gone.
func (r *run) orDied(err error) error {
	select {
	case <-r.machine.Done():
		r.end(testers.Died, "the machine ended: %s", strings.TrimSpace(r.machine.LastWords()))
		return nil
	case <-time.After(dying):
		return err
	}
}

func (r *run) witness() {
	seen := make([]lan.Witness, 0, len(r.segments))
	for _, s := range r.segments {
		seen = append(seen, s.Witness())
	}
	r.boot().Network, r.boot().Seen = seen, time.Now()
}

// readSerial finds the signs in what came over the serial port.
func (r *run) readSerial(at time.Time) {
	said := r.serial.take()
	if said == "" {
		return
	}
	r.watch.typing.hear(testers.Plain(said))
	text := r.watch.partial + said
	r.sign(testers.Signs(testers.Plain(text), "serial", at))
	r.watch.partial = string(lastBytes([]byte(text[strings.LastIndexByte(text, '\n')+1:]), 1<<10))
}

func (r *run) sign(found []testers.Sign) {
	b := r.boot()
	for _, s := range found {
		if s.Name == testers.PassphrasePrompt && len(r.spec.Passphrases) > 0 {
			s.Fatal = false // until it is known whether there is an answer
		}
		if !slices.ContainsFunc(b.Signs, func(o testers.Sign) bool { return o.Name == s.Name && o.Where == s.Where }) {
			b.Signs = append(b.Signs, s)
			r.say("boot %d: %v", len(r.session.Boots), s)
		}
	}
}

// lookAround looks at the screen and at what else shows that the guest lives.
func (r *run) lookAround(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTime, fmt.Errorf("the machine does not answer within %v", askTime))
	defer cancel()
	s, err := screen.Look(ctx, r.machine)
	if err != nil {
		return err
	}
	if err := r.evidence.screen(s.PNG, now.Sub(r.session.Started)); err != nil {
		return err
	}
	r.watch.text = s.Text
	r.sign(testers.Signs(s.Text, "screen", now))
	blocks, err := r.machine.Blocks(ctx)
	if err != nil {
		return err
	}
	is := activity{serial: r.serial.written(), blocks: blocks, text: s.Text}
	for _, w := range r.boot().Network {
		is.frames += w.Frames
	}
	if is != r.watch.activity {
		r.watch.activity, r.watch.alive = is, now
	}
	return nil
}

// ask challenges a probe that has reported before; the first challenge answers
// its hello.
func (r *run) ask(now time.Time) error {
	if r.port == nil || rebooting(r.session) {
		return nil
	}
	last, ok := r.boot().Last()
	every := askEvery
	if up := r.boot().Up; !up.IsZero() && now.Sub(up) >= r.limits.watch {
		every = 2 * lookEvery // for the report that ends the session
	}
	if !ok || now.Sub(last.At) < every || now.Sub(r.watch.asked) < every {
		return nil
	}
	r.watch.asked = now
	return r.port.Challenge()
}

// decide ends the session, or reboots the guest, when it is time.
func (r *run) decide(now time.Time) {
	was := r.boot().Up
	r.boot().Up = r.state(now).upSince()
	if !r.boot().Up.IsZero() {
		r.watch.well = now
	}
	if r.boot().Up.Equal(now) && was.IsZero() {
		r.say("boot %d: up", len(r.session.Boots))
	}
	verdict := next(r.state(now))
	if verdict.reboot {
		r.say("boot %d: rebooting the guest", len(r.session.Boots))
		r.session.RebootAsked = now
		if err := r.port.Do(wire.Reboot); err != nil {
			r.end(testers.Failed, "the probe could not be told to reboot: %v", err)
		}
	}
	if verdict.end != "" {
		r.end(verdict.end, "%s", verdict.detail)
	}
}
