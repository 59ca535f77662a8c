package testers

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
)

const mac = "00:50:56:01:02:03"

var (
	start   = time.Unix(1700000000, 0)
	address = netip.MustParsePrefix("192.0.2.10/24")
	gateway = netip.MustParseAddr("192.0.2.1")
)

func expectation() Expect {
	return Expect{
		Hostname: "web01", MachineID: "m1",
		Disks:  []Disk{{Serial: "web01-disk0", Size: 4 << 30}, {Serial: "web01-disk1", Size: 1 << 30}},
		Mounts: []string{"/srv"}, Swaps: 1,
		NICs: []lan.Expect{{MAC: mac, Static: []netip.Prefix{address}, Gateway: gateway}},
	}
}

func goodReport(boot string) probe.Received {
	return probe.Received{At: start.Add(time.Minute), Report: wire.Report{
		Kind: wire.Reached, BootID: boot, MachineID: "m1", Hostname: "web01.example.org", State: "running", Target: "graphical.target",
		Root: wire.Root{Source: "/dev/mapper/vg-root", Type: "ext4", Disks: []string{"vda"}, Writable: true},
		Disks: []wire.Disk{
			{Name: "vda", Size: 4 << 30, Serial: "web01-disk0", Drivers: []string{"virtio_blk", "virtio-pci", "pcieport"}},
			{Name: "vdb", Size: 1 << 30, Serial: "web01-disk1", Drivers: []string{"virtio_blk", "virtio-pci", "pcieport"}},
		},
		Mounts: []wire.Mount{{Path: "/", Source: "/dev/mapper/vg-root", Type: "ext4"}, {Path: "/srv", Source: "/dev/vdb1", Type: "xfs"}},
		Swaps:  []string{"/dev/dm-1"},
		NICs: []wire.NIC{
			{Name: "ens192", MAC: mac, Permanent: mac, Driver: "virtio_net", Carrier: true},
			{Name: "br0", MAC: "02:00:00:00:00:09", Lower: []string{"ens192"}, Addrs: []netip.Prefix{address}},
		},
		Gateways: []wire.Gate{{Addr: gateway, Interface: "br0", Reached: true}},
	}}
}

func goodNetwork() []lan.Witness {
	return []lan.Witness{{MAC: mac, Frames: 9, Answering: []lan.Answer{{Addr: address.Addr(), MAC: mac, How: "arp", At: start}}}}
}

func goodProbed() Session {
	return Session{
		Probe: true, End: Done, RebootAsked: start.Add(2 * time.Minute), LastWords: "probed",
		Filesystems: []Filesystem{{Device: "vg/root", Type: "ext4", Clean: true}, {Device: "disk1p1", Type: "xfs", Clean: true}},
		Events:      []qmp.Event{{Name: "RESET", Data: json.RawMessage(`{"guest": true, "reason": "guest-reset"}`), At: start.Add(3 * time.Minute)}},
		Boots: []Boot{
			{At: start, Reports: []probe.Received{goodReport("one")}, Network: goodNetwork()},
			{At: start.Add(3 * time.Minute), Reports: []probe.Received{goodReport("two")}, Network: goodNetwork()},
		},
	}
}

func goodClean() Session {
	return Session{End: Done, LastWords: "clean", Boots: []Boot{{At: start, Network: goodNetwork()}}}
}

func TestAGuestThatShowsEverythingIsProved(t *testing.T) {
	o := Judge(expectation(), goodProbed(), goodClean())
	if !o.Proved || o.Cause != "" || o.LastWords != "" || len(o.Answers) != len(All()) {
		t.Errorf("outcome = %+v", o)
	}
}

// report changes the last report of a boot of the session with the probe.
func report(boot int, change func(*wire.Report)) func(*Expect, *Session, *Session) {
	return func(_ *Expect, probed, _ *Session) { change(&probed.Boots[boot].Reports[0].Report) }
}

// TestEachTesterFailsOnItsOwnMutant: one thing is wrong, and only the testers
// that ask for it say so.
func TestEachTesterFailsOnItsOwnMutant(t *testing.T) {
	for _, c := range []struct {
		why    string
		mutate func(e *Expect, probed, clean *Session)
		want   []string // testers that are not OK; the first is the cause
	}{
		{"one forged report", func(_ *Expect, p, _ *Session) { p.Forged = 1 }, []string{"report-authentic"}},
		{"a panic event", func(_ *Expect, p, _ *Session) { p.Events = append(p.Events, qmp.Event{Name: "GUEST_PANICKED"}) }, []string{"no-panic"}},
		{"a panic on serial before the reboot", func(_ *Expect, p, _ *Session) {
			p.Boots[0].Signs = Signs("[1.0] Kernel panic - not syncing: x", "serial", start)
		}, []string{"no-panic"}},
		{"events that nobody saw", func(_ *Expect, p, _ *Session) { p.LostEvents = 3 }, []string{"no-panic"}},
		{"a target that is not reached after the reboot", report(1, func(r *wire.Report) { r.Kind, r.Jobs = wire.Starting, []string{"1 a.service start running"} }),
			[]string{"boot-target-reached"}},
		{"a file system that was damaged on the way", func(_ *Expect, p, _ *Session) { p.Filesystems[1] = Filesystem{Device: "disk1p1", Damaged: true} }, []string{"filesystems-clean"}},
		{"a file system that was damaged before, too", func(e *Expect, p, _ *Session) {
			e.Damaged = []string{"disk1p1"}
			p.Filesystems[1] = Filesystem{Device: "disk1p1", Damaged: true}
		}, nil},
		{"file systems that nobody looked at", func(_ *Expect, p, _ *Session) { p.Filesystems = nil }, []string{"filesystems-clean"}},
		{"emergency mode", report(0, func(r *wire.Report) { r.Kind = wire.Emergency }), []string{"boot-target-reached"}},
		{"a failed mount", report(0, func(r *wire.Report) { r.Failed = []string{"srv.mount"} }), []string{"nothing-essential-failed"}},
		{"a failed network service", report(1, func(r *wire.Report) { r.Failed = []string{"systemd-networkd-wait-online.service"} }),
			[]string{"nothing-essential-failed"}},
		{"a failed mount that failed before, too", func(e *Expect, p, _ *Session) {
			e.MayFail = []string{"srv.mount"}
			p.Boots[0].Reports[0].Failed = e.MayFail
		}, nil},
		{"a failed unit that is the guest's own business", report(0, func(r *wire.Report) { r.Failed = []string{"shop.service"} }), nil},
		{"a root that is read-only", report(0, func(r *wire.Report) { r.Root.Writable = false }), []string{"root-on-expected-disk"}},
		{"a root that is meant to be read-only", func(e *Expect, p, _ *Session) {
			e.ReadOnly = true
			p.Boots[0].Reports[0].Root.Writable = false
		}, nil},
		{"a root on a disk of nobody's", report(0, func(r *wire.Report) { r.Root.Disks = []string{"vdc"} }), []string{"root-on-expected-disk"}},
		{"a root on the other disk", func(e *Expect, _, _ *Session) { e.Root = "web01-disk1" }, []string{"root-on-expected-disk"}},
		{"a data disk that is missing", report(1, func(r *wire.Report) { r.Disks = r.Disks[:1] }), []string{"all-disks-present"}},
		{"a data disk of another size", report(1, func(r *wire.Report) { r.Disks = []wire.Disk{r.Disks[0], {Serial: "web01-disk1"}} }),
			[]string{"all-disks-present"}},
		{"a data disk that is there and not mounted", report(1, func(r *wire.Report) { r.Mounts = r.Mounts[:1] }), []string{"all-mounts-present"}},
		{"no swap", report(0, func(r *wire.Report) { r.Swaps = nil }), []string{"all-mounts-present"}},
		{"a share of a file server that is not in the proof's network", report(0, func(r *wire.Report) {
			r.Failed, r.Remote = []string{"srv-nfs.mount"}, []string{"srv-nfs.mount"}
		}), nil},
		{"a NIC without its driver", report(0, func(r *wire.Report) { r.NICs = []wire.NIC{{Name: "ens192", MAC: mac}, r.NICs[1]} }),
			[]string{"all-nics-present", "addresses-configured"}},
		{"no address", report(0, func(r *wire.Report) { r.NICs = []wire.NIC{r.NICs[0]} }), []string{"addresses-configured"}},
		{"an address on another NIC", report(0, func(r *wire.Report) {
			r.NICs = []wire.NIC{r.NICs[0], {Name: "br0", Addrs: []netip.Prefix{address}}}
		}), []string{"addresses-configured"}},
		{"a gateway that does not answer", report(0, func(r *wire.Report) { r.Gateways = []wire.Gate{{Addr: gateway}} }), []string{"gateway-reached"}},
		{"an IPv6 gateway that does not answer", func(e *Expect, _, _ *Session) { e.NICs[0].Gateway6 = netip.MustParseAddr("fe80::1") }, []string{"gateway-reached"}},
		{"no default route", report(1, func(r *wire.Report) { r.Gateways = nil }), []string{"gateway-reached"}},
		{"an address that does not answer after the reboot", func(_ *Expect, p, _ *Session) { p.Boots[1].Network[0].Answering = nil },
			[]string{"network-witnessed-outside"}},
		{"another host name", report(0, func(r *wire.Report) { r.Hostname = "localhost" }), []string{"identity-kept"}},
		{"a machine ID made at boot", report(1, func(r *wire.Report) { r.MachineID = "m2" }), []string{"identity-kept", "reboot-survived"}},
		{"the same boot ID twice", report(1, func(r *wire.Report) { r.BootID = "one" }), []string{"reboot-survived"}},
		{"a reset that the host made", func(_ *Expect, p, _ *Session) { p.Events[0].Data = json.RawMessage(`{"guest": false}`) }, []string{"reboot-survived"}},
		{"a reset from before the reboot", func(_ *Expect, p, _ *Session) { p.Events[0].At = start }, []string{"reboot-survived"}},
		{"a second boot that hangs", func(_ *Expect, p, _ *Session) { p.Boots[1].Reports, p.End = nil, Hung },
			[]string{"boot-target-reached", "nothing-essential-failed", "root-on-expected-disk", "all-disks-present", "all-mounts-present", "all-nics-present",
				"addresses-configured", "gateway-reached", "identity-kept", "reboot-survived"}},
		{"a clean boot whose address is silent", func(_ *Expect, _, c *Session) { c.Boots[0].Network[0].Answering = nil }, []string{"clean-boot"}},
		{"a clean boot that ends in emergency mode", func(_ *Expect, _, c *Session) {
			c.Boots[0].Signs = Signs("You are in emergency mode. After logging in", "screen", start)
		}, []string{"clean-boot"}},
		{"a clean boot that shuts down", func(_ *Expect, _, c *Session) { c.End = Stopped }, []string{"clean-boot"}},
		{"a clean boot that restarts", func(_ *Expect, _, c *Session) { c.Boots = append(c.Boots, c.Boots[0]) }, []string{"clean-boot"}},
		{"a clean boot with the probe in it", func(_ *Expect, _, c *Session) { c.Probe = true }, []string{"clean-boot"}},
		{"no clean boot", func(_ *Expect, _, c *Session) { *c = Session{} }, []string{"clean-boot"}},
	} {
		e, probed, clean := expectation(), goodProbed(), goodClean()
		c.mutate(&e, &probed, &clean)
		o := Judge(e, probed, clean)
		var failed []string
		for _, a := range o.Answers {
			if !a.OK {
				failed = append(failed, a.Name)
			}
			if a.Evidence == "" {
				t.Errorf("%s: %s has no evidence", c.why, a.Name)
			}
		}
		if !slices.Equal(failed, c.want) {
			t.Errorf("%s: not OK are %q, want %q", c.why, failed, c.want)
		}
		if o.Proved != (len(c.want) == 0) || len(c.want) > 0 && !strings.HasPrefix(o.Cause, c.want[0]+": ") {
			t.Errorf("%s: proved %v because of %q", c.why, o.Proved, o.Cause)
		}
	}
}

func TestAGuestWithoutAnAddressNeedsALoginPrompt(t *testing.T) {
	e, probed, clean := expectation(), goodProbed(), goodClean()
	e.NICs = nil
	if o := Judge(e, probed, clean); o.Proved {
		t.Error("proved without any sign of life in the clean boot")
	}
	clean.Boots[0].Signs = Signs("Debian GNU/Linux 12 web01 tty1\nweb01 login: ", "screen", start)
	if o := Judge(e, probed, clean); !o.Proved {
		t.Errorf("not proved: %s", o.Cause)
	}
}

// TestAddressesOfSwappedNICsAreNotWitnessed: Linux answers ARP for both on both.
func TestAddressesOfSwappedNICsAreNotWitnessed(t *testing.T) {
	const other = "00:50:56:01:02:04"
	second := netip.MustParsePrefix("198.51.100.7/24")
	arp := func(a netip.Addr) lan.Answer { return lan.Answer{Addr: a, How: "arp", At: start} }
	ping := func(a netip.Addr) lan.Answer { return lan.Answer{Addr: a, How: "ping", At: start} }
	for _, c := range []struct {
		why    string
		second netip.Prefix
		first  lan.Witness
		claims []netip.Addr // on the other network
		want   bool
	}{
		{"in its place", second, lan.Witness{MAC: mac, Answering: []lan.Answer{arp(address.Addr())}}, []netip.Addr{second.Addr()}, true},
		{"swapped", second, lan.Witness{MAC: mac, Answering: []lan.Answer{arp(address.Addr())}}, []netip.Addr{address.Addr()}, false},
		{"heard on both, at home on the first", second, lan.Witness{MAC: mac, Answering: []lan.Answer{arp(address.Addr()), ping(address.Addr())}},
			[]netip.Addr{address.Addr()}, true},
		{"two in one network", netip.MustParsePrefix("192.0.2.11/24"), lan.Witness{MAC: mac, Answering: []lan.Answer{arp(address.Addr())}},
			[]netip.Addr{address.Addr()}, true},
	} {
		e := Expect{NICs: []lan.Expect{{MAC: mac, Static: []netip.Prefix{address}}, {MAC: other, Static: []netip.Prefix{c.second}}}}
		b := Boot{Network: []lan.Witness{c.first, {MAC: other, Answering: []lan.Answer{arp(c.second.Addr())}, Claimed: c.claims}}}
		if ok, seen := networkWitnessed(e, b); ok != c.want {
			t.Errorf("%s: %v (%s), want %v", c.why, ok, seen, c.want)
		}
	}
}

func TestALeaseMustBeConfiguredInside(t *testing.T) {
	e, probed, clean := expectation(), goodProbed(), goodClean()
	e.NICs[0].Static, e.NICs[0].DHCP = nil, true
	for _, s := range []Session{probed, clean} {
		for i := range s.Boots {
			s.Boots[i].Network[0].Lease = &lan.Lease{Addr: address.Addr()}
		}
	}
	if o := Judge(e, probed, clean); !o.Proved {
		t.Errorf("not proved: %s", o.Cause)
	}
	probed.Boots[0].Network[0].Lease.Addr = netip.MustParseAddr("192.0.2.50")
	if o := Judge(e, probed, clean); o.Proved || !strings.HasPrefix(o.Cause, "addresses-configured") {
		t.Errorf("proved %v, cause %q, want addresses-configured", o.Proved, o.Cause)
	}
}

func TestNothingIsProvedWithoutAnySession(t *testing.T) {
	o := Judge(expectation(), Session{}, Session{})
	if o.Proved || o.Answers[0].OK {
		t.Errorf("outcome = %+v", o)
	}
}

func TestABootIsSettledOnceSystemdIs(t *testing.T) {
	b := goodProbed().Boots[0]
	if !Settled(expectation(), b) {
		t.Error("a good boot is not settled")
	}
	b.Reports[0].State = "starting"
	if Settled(expectation(), b) || Settled(expectation(), Boot{}) {
		t.Error("a boot that is starting, or that never reported, is settled")
	}
}

func TestSigns(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  string
		fatal bool
	}{
		{"[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", "kernel-panic root-not-mounted", true},
		{"ALERT!  UUID=3f0e does not exist.  Dropping to a shell!\n\n(initramfs) ", "root-not-found initramfs-shell", true},
		{"Give root password for maintenance\n(or press Control-D to continue): ", "maintenance-prompt", true},
		{"\x1b[=3h\x1b[0;1;39mYou are in emergency mode. After logging in, type", "emergency-mode", true},
		{"dracut-initqueue[312]: Warning: dracut-initqueue timeout - starting timeout scripts", "dracut-timeout", false},
		{"error: no such device: 3f0e.\r\nEntering rescue mode...\r\ngrub rescue> ", "grub-rescue grub-no-such-device", true},
		{"Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.", "no-bootable-device boot-failed", true},
		{"Debian GNU/Linux 12 web01 ttyS0\n\nweb01 login: ", "login-prompt", false},
		{"Last login: Mon Nov 23 on tty1\nReached target Multi-User System.", "", false},
	} {
		var names []string
		found := Signs(Plain(c.text), "serial", start)
		for _, s := range found {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("Signs(%q) = %q, want %q", c.text, got, c.want)
		}
		if _, fatal := Fatal(found); fatal != c.fatal {
			t.Errorf("Signs(%q) are fatal: %v, want %v", c.text, fatal, c.fatal)
		}
	}
}

func TestPlainDropsWhatATerminalWouldObey(t *testing.T) {
	if got, want := Plain("\x1b[=3h\x1b[2J\x1b[01;01Hred\x1b[0m\r\nbell\x07\rback\x1b"), "red\nbell\nback"; got != want {
		t.Errorf("Plain = %q, want %q", got, want)
	}
}

func TestEmergencyModeIsExplainedByTheJournal(t *testing.T) {
	r := goodReport("one")
	r.Kind, r.Failed = wire.Emergency, []string{"fsck.service"}
	r.Journal = []string{
		"Nov 23 02:08:40 web01 kernel: EXT4-fs (sda1): mounted",
		"Nov 23 02:08:41 web01 systemd[1]: Timed out waiting for device dev-lost.device - /dev/lost.",
		"Nov 23 02:08:41 web01 systemd[1]: Dependency failed for srv.mount - /srv.",
	}
	want := "the guest is in emergency mode: Timed out waiting for device dev-lost.device - /dev/lost.; Dependency failed for srv.mount - /srv.; fsck.service"
	if got := Cause(Boot{Reports: []probe.Received{r}}); got != want {
		t.Errorf("Cause = %q, want %q", got, want)
	}
}

func TestTheOutcomeSaysWhatWasNotAsked(t *testing.T) {
	e := Expect{NICs: []lan.Expect{{MAC: "52:54:00:00:00:01", DHCP: true, Unasked: []string{"a VLAN"}}, {MAC: "52:54:00:00:00:02"}, {MAC: "52:54:00:00:00:03", Unasked: []string{"off"}}}}
	got := Judge(e, Session{}, Session{}).Unasked
	want := []string{
		"the network of 52:54:00:00:00:01: a VLAN",
		"the network of 52:54:00:00:00:02: no configuration with an address was found for it in the guest",
		"the network of 52:54:00:00:00:03: off",
	}
	if !slices.Equal(got, want) {
		t.Errorf("not asked: %q, want %q", got, want)
	}
	if got := Judge(Expect{}, Session{}, Session{}).Unasked; len(got) != 1 {
		t.Errorf("not asked of a guest without cards: %q", got)
	}
}
