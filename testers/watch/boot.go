// Package watch observes a machine that runs a guest under proof, plugged into
// networks that lead nowhere, until it has shown all that it must show or cannot
// any more. What runs the machine is a package of its own.
//
// Spec: one session. Hypervisor: what starts machines. Machine: one that runs.
// Boot: runs a session. The verdict is package testers'.
package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/screen"
)

// Spec is one session: a machine, what serves its disks, and what to expect.
type Spec struct {
	Domain machine.Domain
	Disks  []Disk         // in the domain's order
	Accel  string         // kvm or tcg, proved to work by the caller
	Whole  bool           // the guest needs all of a CPU, also what emulators have wrong
	Scale  float64        // deadlines are multiplied by it; 1 if zero
	Memory int64          // bytes, where the host cannot give the domain's
	Key    []byte         // the injected probe's; nil: a boot without the probe
	Expect testers.Expect // NICs by MAC
	Dir    string         // evidence of this session; made if absent
	// Emitted is the domain as libvirt XML, and Daemon the URI of the libvirt to
	// run it, for a hypervisor that takes those.
	Emitted string
	Daemon  string
	// Passphrases are typed where the guest asks for them: on its serial console, or on
	// a screen that can be read, as on a US keyboard.
	Passphrases []Passphrase
	// Progress receives a sentence now and then; nil is allowed.
	Progress func(string)
}

// Disk is where one disk of the domain is served: an NBD export on a Unix
// socket, writable, of an overlay that is thrown away.
type Disk struct {
	Socket string
	Export string
}

// Wires are what a machine connects to when it starts.
type Wires struct {
	Dir      string     // the session's own, for what else its hypervisor needs
	Serial   string     // Unix socket for the first serial port
	Probe    string     // Unix socket for the probe's port; empty without the probe
	Networks []net.Addr // of the NICs
}

// ErrRefused is a machine that its hypervisor does not take as it is described.
var ErrRefused = errors.New("refused")

// Hypervisor starts machines.
type Hypervisor interface {
	// Plug opens the network of NIC i for one machine to connect to; dir is the
	// session's own.
	Plug(dir string, i int) (net.Listener, error)
	// Start starts a machine and lets it go; ErrRefused is for the session to
	// tell, any other error ends it.
	Start(ctx context.Context, s Spec, w Wires) (Machine, error)
}

// Machine is a machine that runs. Whatever it is asked for, an answer may be an
// error because it has ended meanwhile: Done then is closed within seconds.
type Machine interface {
	// About is what runs the machine, and where it is not the emitted hardware.
	About() (by string, differences []string)
	// Events are QEMU's; the channel is closed when the machine has ended.
	Events() <-chan qmp.Event
	// Lost is how many events came too fast to be read.
	Lost() int64
	// Done is closed when the machine has ended, and LastWords then says how.
	Done() <-chan struct{}
	LastWords() string
	screen.Source
	// Blocks is how many operations the guest's disks have seen so far.
	Blocks(ctx context.Context) (Operations, error)
	// Press presses keys together, and lets go of them. They are numbered as Linux does.
	Press(ctx context.Context, keys []int) error
	// Stop ends the machine.
	Stop() error
}

// Operations are counts of what a guest did with its disks.
type Operations struct{ Reads, Writes int64 }

// limits are the deadlines of a session.
type limits struct {
	boot   time.Duration // from power on or reset until all is seen
	settle time.Duration // from the boot target until all else is seen
	linger time.Duration // that a guest's network is watched when it shows no login prompt
	stall  time.Duration // without any sign of life
	words  time.Duration // from emergency mode to the end, for the probe to tell the cause
	watch  time.Duration // that the last boot is watched for once it is up
}

func (s Spec) limits() limits {
	l := limits{boot: 5 * time.Minute, settle: 30 * time.Second, linger: 10 * time.Second, stall: 2 * time.Minute, words: 20 * time.Second, watch: 10 * time.Second}
	if s.Accel != "kvm" {
		// A Debian 12 takes 20 to 60 s emulated, with its disks warm.
		l = limits{boot: 10 * time.Minute, settle: 2 * time.Minute, linger: 40 * time.Second, stall: 4 * time.Minute, words: time.Minute, watch: 20 * time.Second}
	}
	scale := s.Scale
	if scale == 0 {
		scale = 1
	}
	for _, d := range []*time.Duration{&l.boot, &l.settle, &l.linger, &l.stall, &l.words, &l.watch} {
		*d = time.Duration(float64(*d) * scale)
	}
	return l
}

// run is a machine that is being observed.
type run struct {
	spec     Spec
	limits   limits
	session  testers.Session
	evidence *evidence
	serial   *serial
	port     *probe.Port // nil without the probe
	segments []*lan.Segment
	machine  Machine
	watch    watch
}

// Boot runs one session to its end. With the probe the guest is rebooted once.
// An error is a machine that could not be run or observed, or the cause of ctx;
// whatever the guest does is in the session.
func Boot(ctx context.Context, s Spec, h Hypervisor) (testers.Session, error) {
	dir, err := proc.PrivateDir()
	if err != nil {
		return testers.Session{}, fmt.Errorf("machine %s: %w", s.Domain.Name, err)
	}
	r := &run{spec: s, limits: s.limits()}
	err = r.start(ctx, h, dir)
	switch {
	case errors.Is(err, ErrRefused):
		err = r.refused(err)
	case err == nil:
		err = r.observe(ctx)
	}
	if err = errors.Join(err, r.stop(), os.RemoveAll(dir)); err != nil {
		return r.session, fmt.Errorf("machine %s: %w", s.Domain.Name, err)
	}
	return r.session, nil
}

// start opens everything that the machine connects to, and starts it last.
func (r *run) start(ctx context.Context, h Hypervisor, dir string) (err error) {
	if r.evidence, err = newEvidence(r.spec.Dir); err != nil {
		return err
	}
	wires, err := r.listen(h, dir)
	if err != nil {
		return err
	}
	if r.machine, err = h.Start(ctx, r.spec, wires); err != nil {
		return err
	}
	by, more := r.machine.About()
	r.session = testers.Session{
		Probe: r.spec.Key != nil, By: by, Accel: r.spec.Accel, Started: time.Now(),
		Differences: slices.Concat(differences(r.spec), more), Watch: r.limits.watch,
	}
	r.session.Boots = []testers.Boot{{At: r.session.Started}}
	return nil
}

// refused is the session of a machine that did not start.
func (r *run) refused(why error) error {
	r.session = testers.Session{Probe: r.spec.Key != nil, Accel: r.spec.Accel, Started: time.Now(), End: testers.Refused, Detail: why.Error()}
	r.say("%s", r.session.Detail)
	return r.evidence.json("session.json", r.session)
}

func (r *run) listen(h Hypervisor, dir string) (w Wires, err error) {
	w = Wires{Dir: dir, Serial: filepath.Join(dir, "serial")}
	if r.serial, err = listenSerial(w.Serial, r.evidence.path("serial.log")); err != nil {
		return w, err
	}
	if r.spec.Key != nil {
		w.Probe = filepath.Join(dir, "probe")
		if r.port, err = probe.Listen(w.Probe, r.spec.Key); err != nil {
			return w, err
		}
	}
	networks := expected(r.spec.Expect, r.spec.Domain.NICs)
	for i, nic := range r.spec.Domain.NICs {
		listener, err := h.Plug(dir, i)
		if err != nil {
			return w, fmt.Errorf("network of %s: %w", nic.MAC, err)
		}
		segment, err := lan.Serve(listener, networks[i])
		if err != nil {
			return w, err
		}
		r.segments = append(r.segments, segment)
		w.Networks = append(w.Networks, listener.Addr())
	}
	return w, nil
}

// expected is what each NIC is expected to do; every network that leases has
// addresses of its own (RFC 2544), and all know of the others.
func expected(e testers.Expect, nics []machine.Interface) []lan.Expect {
	var all []lan.Expect
	for i, nic := range nics {
		want := lan.Expect{MAC: nic.MAC}
		for _, n := range e.NICs {
			if n.MAC == nic.MAC {
				want = n
			}
		}
		if !want.Network.IsValid() && i > 0 {
			want.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 24)
		}
		all = append(all, want)
	}
	for i := range all {
		for j, other := range all {
			if i != j {
				all[i].Beside = slices.Concat(all[i].Beside, other.Static, []netip.Prefix{other.Leasing()})
			}
		}
	}
	return all
}

// differences are what every machine under proof has other than the emitted
// hardware.
func differences(s Spec) []string {
	diff := []string{"disks are overlays that are thrown away", "networks lead nowhere"}
	if s.Memory != 0 && s.Memory != s.Domain.Memory {
		diff = append(diff, fmt.Sprintf("%d bytes of memory instead of %d", s.Memory, s.Domain.Memory))
	}
	if s.Key != nil {
		diff = append(diff, "a second port on the virtio-serial channel, for the probe")
	}
	return diff
}

// stop ends the machine and closes what it was connected to, in the order in
// which nothing can still write to what is closed.
func (r *run) stop() error {
	var err error
	if r.machine != nil {
		err = r.machine.Stop()
	}
	for _, s := range r.segments {
		err = errors.Join(err, s.Close())
	}
	if r.port != nil {
		err = errors.Join(err, r.port.Close())
	}
	if r.serial != nil {
		err = errors.Join(err, r.serial.close())
	}
	if r.evidence != nil {
		err = errors.Join(err, r.evidence.close())
	}
	return err
}

func (r *run) say(format string, args ...any) {
	if r.spec.Progress != nil {
		r.spec.Progress(fmt.Sprintf(format, args...))
	}
}
