package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
)

func TestScreenshotsAreThinnedButTheFirstAndLastStay(t *testing.T) {
	e, err := newEvidence(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if err := os.WriteFile(e.path("screen-00007s.png"), nil, 0o600); err != nil { // of another session
		t.Fatal(err)
	}
	if e, err = newEvidence(e.dir); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := e.screen([]byte{byte(i)}, time.Duration(i)*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := e.screen([]byte{byte(i)}, time.Duration(i)*time.Second+time.Millisecond); err != nil {
			t.Fatal(err) // the same picture again
		}
	}
	files, err := os.ReadDir(e.dir)
	if err != nil {
		t.Fatal(err)
	}
	n := len(e.screens)
	if n > maxScreens || len(files) != n+2 || e.screens[0] != "screen-00000s.png" || e.screens[n-1] != "screen-00099s.png" {
		t.Errorf("%d files, screens %q", len(files), e.screens)
	}
}

const mac = "00:50:56:01:02:03"

var start = time.Unix(1700000000, 0)

func expectation() testers.Expect {
	return testers.Expect{NICs: []lan.Expect{{MAC: mac, Static: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}}}
}

// answers are those of the guest's address, from half a minute after power on to
// a time.
func answers(last time.Duration) []lan.Witness {
	return []lan.Witness{{MAC: mac, Answering: []lan.Answer{{Addr: netip.MustParseAddr("192.0.2.10"), MAC: mac, How: "arp",
		At: start.Add(30 * time.Second), Last: start.Add(last)}}}}
}

// up is a report of a guest that is fully up, its one disk and address included.
func up(at time.Duration) probe.Received {
	return probe.Received{At: start.Add(at), Report: wire.Report{Kind: wire.Reached, State: "running", BootID: "b",
		Uptime: at.Seconds(), Clock: start.Add(at).Unix(),
		Root: wire.Root{Disks: []string{"sda"}, Writable: true}, Disks: []wire.Disk{{Name: "sda", Serial: "d"}},
		NICs: []wire.NIC{{Name: "e", MAC: mac, Driver: "vmxnet3", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}}}}
}

func TestNextStep(t *testing.T) {
	e := expectation()
	e.Disks = []testers.Disk{{Serial: "d"}}
	login := testers.Signs("web01 login: ", "screen", start.Add(40*time.Second))
	panicked := testers.Signs("Kernel panic - not syncing", "serial", start.Add(40*time.Second))
	stuck := testers.Signs("You are in emergency mode.", "serial", start.Add(40*time.Second))
	starting, emergency := up(time.Minute), up(time.Minute)
	starting.Kind, emergency.Kind = wire.Starting, wire.Emergency
	late := up(time.Minute)
	late.Gateways = nil
	late.NICs = nil // the address never comes
	working := late
	working.State = "starting"
	const minute, second = time.Minute, time.Second
	// probed is a boot with the probe, which reported and answered last at these times.
	probed := func(reports []probe.Received, answered time.Duration) testers.Boot {
		return testers.Boot{At: start, Reports: reports, Network: answers(answered), Seen: start.Add(answered)}
	}
	ups := func(at ...time.Duration) (reports []probe.Received) {
		for _, a := range at {
			reports = append(reports, up(a))
		}
		return reports
	}
	first := func(b testers.Boot) testers.Session { return testers.Session{Probe: true, Boots: []testers.Boot{b}} }
	asked := func(boots ...testers.Boot) testers.Session {
		return testers.Session{Probe: true, RebootAsked: start.Add(minute), Boots: boots}
	}
	clean := func(b testers.Boot) testers.Session {
		b.At = start
		return testers.Session{Boots: []testers.Boot{b}}
	}
	since := func(at time.Duration, b testers.Boot) testers.Boot { b.Up = start.Add(at); return b }
	for _, c := range []struct {
		why     string
		session testers.Session
		alive   time.Duration // since power on
		now     time.Duration
		want    step // its detail is not compared
	}{
		{"a boot that goes on", clean(testers.Boot{}), minute, minute, step{}},
		{"a first boot that has shown all", first(probed(ups(minute), minute)), minute, minute, step{reboot: true}},
		{"a reboot that was asked for", asked(since(minute, probed(ups(minute), minute))), minute, 90 * second, step{}},
		{"a reboot that never happens", asked(since(minute, probed(ups(minute), minute))), 7 * minute, 7 * minute, step{end: testers.Overdue}},
		{"a second boot that has shown all", asked(testers.Boot{}, probed(ups(2*minute), 2*minute)), 2 * minute, 2 * minute, step{}},
		{"a second boot that has shown all for long enough", asked(testers.Boot{}, since(2*minute, probed(ups(2*minute, 131*second), 131*second))),
			131 * second, 131 * second, step{end: testers.Done}},
		{"a second boot that was not well meanwhile", asked(testers.Boot{}, since(2*minute, probed([]probe.Received{up(2 * minute), late}, 131*second))),
			131 * second, 131 * second, step{}},
		{"a second boot whose probe is silent", asked(testers.Boot{}, since(2*minute, probed(ups(2*minute), 131*second))), 131 * second, 131 * second, step{}},
		{"a second boot whose probe is silent for too long", asked(testers.Boot{}, since(2*minute, probed(ups(2*minute), 161*second))),
			161 * second, 161 * second, step{end: testers.Failed}},
		{"a second boot whose address is silent for too long", asked(testers.Boot{}, since(2*minute, probed(ups(2*minute, 161*second), 121*second))),
			161 * second, 161 * second, step{end: testers.Failed}},
		{"a boot target without the rest", first(probed([]probe.Received{late}, minute)), minute, 80 * second, step{}},
		{"a boot target without the rest for too long", first(probed([]probe.Received{late}, minute)), minute, 2 * minute, step{end: testers.Failed}},
		{"a boot target without the rest, for which systemd still works", first(probed([]probe.Received{working}, minute)), 2 * minute, 2 * minute, step{}},
		{"a boot target without the rest, for which systemd works for too long", first(probed([]probe.Received{working}, minute)),
			6 * minute, 6 * minute, step{end: testers.Overdue}},
		{"a boot that was well and is not", first(probed([]probe.Received{up(20 * second), late}, minute)), minute, 65 * second, step{}},
		{"a boot that was well and is not for too long", first(probed([]probe.Received{up(20 * second), late}, minute)), minute, 75 * second, step{end: testers.Failed}},
		{"a boot that only starts", first(testers.Boot{At: start, Reports: []probe.Received{starting}}), 6 * minute, 6 * minute, step{end: testers.Overdue}},
		{"emergency mode that the probe tells of", first(testers.Boot{At: start, Reports: []probe.Received{emergency}}), minute, minute, step{end: testers.Failed}},
		{"a panic, at once", clean(testers.Boot{Signs: panicked}), 41 * second, 41 * second, step{}},
		{"a panic, after its last words", clean(testers.Boot{Signs: panicked}), 46 * second, 46 * second, step{end: testers.Failed}},
		{"emergency mode, before the probe tells of it", first(testers.Boot{At: start, Signs: stuck}), 46 * second, 46 * second, step{}},
		{"emergency mode that the probe does not tell of", first(testers.Boot{At: start, Signs: stuck}), minute, 61 * second, step{end: testers.Failed}},
		{"a clean boot with network and login", clean(testers.Boot{Network: answers(41 * second), Signs: login}), 41 * second, 41 * second, step{}},
		{"a clean boot with network and login for long enough", clean(since(41*second, testers.Boot{Network: answers(52 * second), Signs: login, Seen: start.Add(52 * second)})),
			52 * second, 52 * second, step{end: testers.Done}},
		{"a clean boot whose network is silent", clean(since(41*second, testers.Boot{Network: answers(42 * second), Signs: login, Seen: start.Add(52 * second)})),
			52 * second, 52 * second, step{}},
		{"a clean boot whose network is silent for too long", clean(since(41*second, testers.Boot{Network: answers(42 * second), Signs: login, Seen: start.Add(82 * second)})),
			82 * second, 82 * second, step{end: testers.Failed}},
		{"a clean boot with network alone", clean(testers.Boot{Network: answers(31 * second)}), 31 * second, 31 * second, step{}},
		{"a clean boot with network alone for long enough", clean(since(41*second, testers.Boot{Network: answers(61 * second), Seen: start.Add(61 * second)})),
			61 * second, 61 * second, step{end: testers.Done}},
		{"a clean boot with login alone", clean(testers.Boot{Signs: login}), minute, 69 * second, step{}},
		{"a clean boot with login alone, after a while", clean(testers.Boot{Signs: login}), minute, 71 * second, step{end: testers.Failed}},
		{"a forger on the probe's port, at once", first(testers.Boot{At: start}), 20 * second, 20 * second, step{}},
		{"a forger on the probe's port", first(testers.Boot{At: start}), 50 * second, 50 * second, step{end: testers.Failed}},
		{"a forger who lets the probe speak", first(probed(ups(20*second), 20*second)), 50 * second, 50 * second, step{end: testers.Failed}},
		{"silence", clean(testers.Boot{}), minute, 190 * second, step{end: testers.Hung}},
	} {
		c.session.Watch = 10 * second
		s := state{now: start.Add(c.now), alive: start.Add(c.alive), session: c.session, expect: e, limits: Spec{Accel: "kvm"}.limits()}
		if strings.Contains(c.why, "forger") {
			s.forged = start.Add(10 * second)
		}
		if strings.Contains(c.why, "was well") {
			s.well = start.Add(40 * second)
		}
		s.session.Boots[len(s.session.Boots)-1].Up = s.upSince()
		got := next(s)
		if got.reboot != c.want.reboot || got.end != c.want.end || got.end != "" && got.detail == "" {
			t.Errorf("%s: %+v, want %+v", c.why, got, c.want)
		}
	}
}

func TestDeadlinesGrowWithEmulationAndScale(t *testing.T) {
	kvm, tcg := Spec{Accel: "kvm"}.limits(), Spec{Accel: "tcg"}.limits()
	if tcg.boot <= kvm.boot || tcg.stall <= kvm.stall {
		t.Errorf("limits are %+v emulated and %+v not", tcg, kvm)
	}
	if got := (Spec{Accel: "tcg", Scale: 2.5}).limits().boot; got != 25*time.Minute {
		t.Errorf("boot limit scaled by 2.5 is %v", got)
	}
}

// idle is a machine that does nothing but count what a test lets it write.
type idle struct {
	Machine
	writes int64
}

func (m *idle) Blocks(context.Context) (Operations, error) { return Operations{Writes: m.writes}, nil }

// observed is a machine of which only what resets touch is there.
func observed(t *testing.T) *run {
	t.Helper()
	e, err := newEvidence(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.close() })
	return &run{evidence: e, serial: &serial{}, machine: &idle{}, session: testers.Session{Probe: true, Boots: []testers.Boot{{At: start}}}}
}

func TestResetsMakeBoots(t *testing.T) {
	type reset struct {
		at    time.Duration
		after func(r *run) // what happens before it
	}
	shows := func(r *run) { r.boot().Reports = append(r.boot().Reports, up(time.Minute)) }
	asked := func(r *run) { shows(r); r.session.RebootAsked = start.Add(time.Minute) }
	writes := func(r *run) { r.machine.(*idle).writes++ }
	for _, c := range []struct {
		why    string
		resets []reset
		boots  int
		end    testers.End
	}{
		{"a reboot that was asked for", []reset{{2 * time.Minute, asked}}, 2, ""},
		{"a reboot that tries every way at once", []reset{{2 * time.Minute, asked}, {2*time.Minute + 50*time.Millisecond, nil},
			{2*time.Minute + 60*time.Millisecond, nil}, {2*time.Minute + 90*time.Millisecond, nil}}, 2, ""},
		{"firmware that restarts once", []reset{{10 * time.Second, nil}}, 1, ""},
		{"a guest that restarts by itself", []reset{{2 * time.Minute, shows}}, 2, testers.Failed},
		{"a guest that restarts by itself before it reports anything", []reset{{10 * time.Second, writes}}, 2, testers.Failed},
		{"a guest that restarts again after its reboot", []reset{{2 * time.Minute, asked}, {4 * time.Minute, shows}}, 3, testers.Failed},
		{"a boot that restarts before it shows anything, again and again",
			[]reset{{10 * time.Second, nil}, {20 * time.Second, nil}, {30 * time.Second, nil}}, 2, testers.Failed},
	} {
		r := observed(t)
		for _, reset := range c.resets {
			if reset.after != nil {
				reset.after(r)
			}
			if err := r.event(t.Context(), qmp.Event{Name: "RESET", Data: json.RawMessage(`{"guest":true}`), At: start.Add(reset.at)}, true); err != nil {
				t.Fatal(err)
			}
		}
		if len(r.session.Boots) != c.boots || r.session.End != c.end || len(r.session.Events) != len(c.resets) {
			t.Errorf("%s: %d boots, end %q (%s), want %d and %q", c.why, len(r.session.Boots), r.session.End, r.session.Detail, c.boots, c.end)
		}
	}
}

func TestQEMUsEventsEndTheSession(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       testers.End
		detail     string
	}{
		{"SHUTDOWN", `{"guest":true,"reason":"guest-shutdown"}`, testers.Stopped, "the guest shut itself down"},
		{"SHUTDOWN", `{"guest":false,"reason":"host-signal"}`, testers.Died, "the machine was ended by the host: host-signal"},
		{"SHUTDOWN", ``, testers.Stopped, "the guest shut itself down"},
		{"SUSPEND", ``, testers.Stopped, "the guest went to sleep"},
		{"SUSPEND_DISK", ``, testers.Stopped, "the guest went to sleep"},
		{"GUEST_PANICKED", ``, testers.Panicked, "the guest's kernel panicked"},
		{"BLOCK_IO_ERROR", `{}`, testers.Failed, "a disk's overlay could not be read or written: {}"},
		{"RESUME", ``, "", ""},
	} {
		r := observed(t)
		if err := r.event(t.Context(), qmp.Event{Name: c.name, Data: json.RawMessage(c.data), At: start}, true); err != nil {
			t.Fatal(err)
		}
		if r.session.End != c.want || r.session.Detail != c.detail {
			t.Errorf("%s %s ends the session as %q, %q, want %q, %q", c.name, c.data, r.session.End, r.session.Detail, c.want, c.detail)
		}
	}
}

func TestSignsAreFoundAcrossReads(t *testing.T) {
	r := observed(t)
	for _, part := range []string{"[  1.0] Kernel pan", "ic - not sync", "ing: Attempted to kill init\r\nweb01 lo", "gin: "} {
		r.serial.fresh = []byte(part)
		r.readSerial(start)
	}
	var names []string
	for _, s := range r.boot().Signs {
		names = append(names, s.Name)
	}
	if want := []string{"kernel-panic", "login-prompt"}; !slices.Equal(names, want) {
		t.Errorf("signs = %q, want %q", names, want)
	}
}

func TestTheSerialLogIsBounded(t *testing.T) {
	path := t.TempDir() + "/log"
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &serial{log: f}
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for range 10 {
		s.write(chunk)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != maxSerial || s.written() != 10<<20 || len(s.last()) != maxTail || len(s.take()) != maxTail || s.err != nil {
		t.Errorf("log of %d bytes for %d written, tail %d, err %v", info.Size(), s.written(), len(s.last()), s.err)
	}
}

func TestWhatAGuestSaysWhileItGoesDownIsNotJudged(t *testing.T) {
	r := observed(t)
	if err := r.report(up(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r.session.RebootAsked = start.Add(time.Minute)
	down := up(2 * time.Minute)
	down.Kind, down.State, down.NICs = wire.Starting, "stopping", nil
	if err := r.report(down); err != nil {
		t.Fatal(err)
	}
	if last, ok := r.boot().Last(); !ok || last.Kind != wire.Reached {
		t.Errorf("the boot before the reboot ends with %+v, want the report of before the reboot", last)
	}
	if !r.watch.alive.Equal(down.At) {
		t.Errorf("last sign of life at %v, want %v", r.watch.alive, down.At)
	}
	r.session.Boots = append(r.session.Boots, testers.Boot{At: start.Add(3 * time.Minute)})
	if err := r.report(up(4 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n := len(r.boot().Reports); n != 1 {
		t.Errorf("%d reports after the reboot, want 1", n)
	}
}
