// Package qemu boots a guest under proof in QEMU, on the hardware of its
// domain, plugged into networks that lead nowhere, and observes it until it has
// shown all that it must show or cannot any more.
//
// Spec: one session. Boot: runs it. The verdict is package testers'.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
)

// Spec is one session: a machine, what serves its disks, and what to expect.
type Spec struct {
	Domain machine.Domain
	Disks  []Disk         // in the domain's order
	Accel  string         // kvm or tcg, proved to work by the caller
	Scale  float64        // deadlines are multiplied by it; 1 if zero
	Memory int64          // bytes, where the host cannot give the domain's
	Key    []byte         // the injected probe's; nil: a boot without the probe
	Expect testers.Expect // NICs by MAC
	Dir    string         // evidence of this session; made if absent
	// Progress receives a sentence now and then; nil is allowed.
	Progress func(string)
}

// limits are the deadlines of a session.
type limits struct {
	boot   time.Duration // from power on or reset until all is seen
	settle time.Duration // from the boot target until all else is seen
	linger time.Duration // that a guest's network is watched when it shows no login prompt
	stall  time.Duration // without any sign of life
	words  time.Duration // from emergency mode to the end, for the probe to tell the cause
}

func (s Spec) limits() limits {
	l := limits{boot: 5 * time.Minute, settle: 30 * time.Second, linger: 10 * time.Second, stall: 2 * time.Minute, words: 20 * time.Second}
	if s.Accel != "kvm" {
		// A Debian 12 takes 20 to 60 s emulated, with its disks warm.
		l = limits{boot: 10 * time.Minute, settle: 2 * time.Minute, linger: 40 * time.Second, stall: 4 * time.Minute, words: time.Minute}
	}
	scale := s.Scale
	if scale == 0 {
		scale = 1
	}
	for _, d := range []*time.Duration{&l.boot, &l.settle, &l.linger, &l.stall, &l.words} {
		*d = time.Duration(float64(*d) * scale)
	}
	return l
}

// run is a machine that is being observed.
type run struct {
	spec     Spec
	at       sockets
	limits   limits
	session  testers.Session
	evidence *evidence
	serial   *serial
	port     *probe.Port // nil without the probe
	segments []*lan.Segment
	server   *proc.Server
	qmp      *qmp.Client
	watch    watch
}

// Boot runs one session to its end. With the probe the guest is rebooted once.
// An error is a machine that could not be run or observed, or the cause of ctx;
// whatever the guest does is in the session.
func Boot(ctx context.Context, s Spec) (testers.Session, error) {
	dir, err := os.MkdirTemp("", "h2k-") // short: a socket's path has 107 bytes
	if err != nil {
		return testers.Session{}, fmt.Errorf("machine %s: %w", s.Domain.Name, err)
	}
	r := &run{spec: s, at: sockets{dir}, limits: s.limits()}
	err = r.start(ctx)
	if err == nil {
		err = r.observe(ctx)
	}
	if err = errors.Join(err, r.stop(), os.RemoveAll(dir)); err != nil {
		return r.session, fmt.Errorf("machine %s: %w", s.Domain.Name, err)
	}
	return r.session, nil
}

// start opens everything that QEMU connects to, and QEMU last.
func (r *run) start(ctx context.Context) error {
	args, err := arguments(r.spec, r.at)
	if err != nil {
		return err
	}
	if r.evidence, err = newEvidence(r.spec.Dir); err != nil {
		return err
	}
	if err := r.listen(); err != nil {
		return err
	}
	if r.spec.Domain.Firmware == machine.UEFI {
		_, vars := firmware(r.spec.Domain)
		if err := copyFile(r.at.vars(), vars); err != nil {
			return err
		}
	}
	r.server, err = proc.Start(ctx, proc.Service{
		Command: proc.Command{Name: "qemu-system-x86_64", Args: args},
		Socket:  r.at.qmp(),
	})
	if err != nil {
		return err
	}
	if r.qmp, err = qmp.Dial(ctx, r.at.qmp()); err != nil {
		return err
	}
	r.session = testers.Session{
		Probe: r.spec.Key != nil, Accel: r.spec.Accel, Started: time.Now(),
		Differences: differences(r.spec),
	}
	r.session.Boots = []testers.Boot{{At: r.session.Started}}
	return r.qmp.Execute(ctx, "cont", nil, nil)
}

func (r *run) listen() error {
	var err error
	if r.serial, err = listenSerial(r.at.serial(), r.evidence.path("serial.log")); err != nil {
		return err
	}
	if r.spec.Key != nil {
		if r.port, err = probe.Listen(r.at.probe(), r.spec.Key); err != nil {
			return err
		}
	}
	for i, nic := range r.spec.Domain.NICs {
		segment, err := lan.Listen(r.at.nic(i), expected(r.spec.Expect, i, nic.MAC))
		if err != nil {
			return err
		}
		r.segments = append(r.segments, segment)
	}
	return nil
}

// expected is what NIC i is expected to do; every network that leases has
// addresses of its own (RFC 2544).
func expected(e testers.Expect, i int, mac string) lan.Expect {
	want := lan.Expect{MAC: mac}
	for _, n := range e.NICs {
		if n.MAC == mac {
			want = n
		}
	}
	if !want.Network.IsValid() && i > 0 {
		want.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 24)
	}
	return want
}

// differences are what the machine has other than the emitted hardware.
func differences(s Spec) []string {
	diff := []string{"disks are overlays that are thrown away", "networks lead nowhere"}
	if s.Accel != "kvm" {
		diff = append(diff, "the CPU is emulated: model max")
	}
	if s.Memory != 0 && s.Memory != s.Domain.Memory {
		diff = append(diff, fmt.Sprintf("%d bytes of memory instead of %d", s.Memory, s.Domain.Memory))
	}
	if s.Key != nil {
		diff = append(diff, "a second port on the virtio-serial channel, for the probe")
	}
	return diff
}

// stop ends QEMU and closes what it was connected to, in the order in which
// nothing can still write to what is closed.
func (r *run) stop() error {
	var err error
	if r.qmp != nil {
		err = r.qmp.Close()
	}
	if r.server != nil {
		err = errors.Join(err, r.server.Stop())
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

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
