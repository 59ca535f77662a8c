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

const (
	mac    = "00:50:56:01:02:03"
	bridge = "02:00:00:00:00:09"
	nobody = "02:00:00:00:00:66"
	other  = "00:50:56:01:02:04"
)

var (
	start   = time.Unix(1700000000, 0)
	address = netip.MustParsePrefix("192.0.2.10/24")
	gateway = netip.MustParseAddr("192.0.2.1")
	wrong   = netip.MustParseAddr("192.0.2.254")
)

func expectation() Expect {
	return Expect{
		Hostname: "web01", MachineID: "m1",
		Disks:    []Disk{{Serial: "web01-disk0", Size: 4 << 30}, {Serial: "web01-disk1", Size: 1 << 30}},
		RootUUID: "u0", Mounts: []Mount{{Path: "/srv", UUID: "u1"}}, Swaps: 1,
		NICs: []lan.Expect{{MAC: mac, Static: []netip.Prefix{address}, Gateway: gateway}},
	}
}

// goodReport is what the probe reports a minute after a guest was booted.
func goodReport(boot string, at time.Time) probe.Received {
	return probe.Received{At: at, Report: wire.Report{
		Kind: wire.Reached, BootID: boot, MachineID: "m1", Hostname: "web01.example.org", State: "running", Target: "graphical.target",
		Uptime: 59, Clock: at.Unix() - 1,
		Root: wire.Root{Source: "/dev/mapper/vg-root", Type: "ext4", UUID: "u0", Disks: []string{"vda"}, Writable: true},
		Disks: []wire.Disk{
			{Name: "vda", Size: 4 << 30, Serial: "web01-disk0", Drivers: []string{"virtio_blk", "virtio-pci", "pcieport"}},
			{Name: "vdb", Size: 1 << 30, Serial: "web01-disk1", Drivers: []string{"virtio_blk", "virtio-pci", "pcieport"}},
		},
		Mounts: []wire.Mount{{Path: "/", Source: "/dev/mapper/vg-root", Type: "ext4"}, {Path: "/srv", Source: "/dev/vdb1", Type: "xfs", UUID: "u1"}},
		Swaps:  []string{"/dev/dm-1"},
		NICs: []wire.NIC{
			{Name: "ens192", MAC: mac, Permanent: mac, Driver: "virtio_net", Carrier: true},
			{Name: "br0", MAC: bridge, Lower: []string{"ens192"}, Addrs: []netip.Prefix{address}},
		},
		Gateways: []wire.Gate{{Addr: gateway, Interface: "br0", Reached: true}},
	}}
}

// goodNetwork is what was seen of a bridge with an address up to a time.
func goodNetwork(last time.Time) []lan.Witness {
	return []lan.Witness{{MAC: mac, Frames: 9,
		Answering: []lan.Answer{{Addr: address.Addr(), MAC: bridge, How: "arp", At: start, Last: last}},
		Routes:    []lan.Route{{Addr: address.Addr(), Via: gateway, Last: last}}}}
}

// The times of a good session with the probe: its boots, and when they are up.
var (
	up       = start.Add(time.Minute)
	rebooted = start.Add(3 * time.Minute)
	upAgain  = start.Add(4 * time.Minute)
)

const watched = 20 * time.Second

// goodBoot is a boot that was up for as long as a boot is watched, and a second.
func goodBoot(boot string, at, up time.Time) Boot {
	end := up.Add(watched + time.Second)
	first, last := goodReport(boot, up), goodReport(boot, end)
	last.Uptime += (watched + time.Second).Seconds()
	return Boot{At: at, Reports: []probe.Received{first, last}, Network: goodNetwork(end), Up: up, Seen: end}
}

func goodProbed() Session {
	return Session{
		Probe: true, End: Done, RebootAsked: start.Add(2 * time.Minute), LastWords: "probed", Watch: watched,
		Filesystems: []Filesystem{{Device: "vg/root", Type: "ext4", Clean: true}, {Device: "disk1p1", Type: "xfs", Clean: true}},
		Events:      []qmp.Event{{Name: "RESET", Data: json.RawMessage(`{"guest": true, "reason": "guest-reset"}`), At: rebooted}},
		Boots:       []Boot{goodBoot("one", start, up), goodBoot("two", rebooted, upAgain)},
	}
}

func goodClean() Session {
	b := goodBoot("", start, up)
	b.Reports = nil
	return Session{End: Done, LastWords: "clean", Watch: watched, Boots: []Boot{b}}
}

func TestAGuestThatShowsEverythingIsProved(t *testing.T) {
	o := Judge(expectation(), goodProbed(), goodClean())
	if !o.Proved || o.Cause != "" || o.LastWords != "" || len(o.Answers) != len(All()) {
		t.Errorf("outcome = %+v", o)
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
	e, probed, clean := leased()
	if o := Judge(e, probed, clean); !o.Proved {
		t.Errorf("not proved: %s", o.Cause)
	}
	probed.Boots[0].Network[0].Lease.Addr = netip.MustParseAddr("192.0.2.50")
	if o := Judge(e, probed, clean); o.Proved || !strings.HasPrefix(o.Cause, "addresses-configured") {
		t.Errorf("proved %v, cause %q, want addresses-configured", o.Proved, o.Cause)
	}
}

// leased is a good guest on DHCP.
func leased() (e Expect, probed, clean Session) {
	e, probed, clean = expectation(), goodProbed(), goodClean()
	e.NICs[0].Static, e.NICs[0].Gateway, e.NICs[0].DHCP = nil, netip.Addr{}, true
	for _, s := range []Session{probed, clean} {
		for i := range s.Boots {
			s.Boots[i].Network[0].Lease = &lan.Lease{Addr: address.Addr(), Router: gateway, Hostname: "web01"}
		}
	}
	return e, probed, clean
}

func TestALeaseOfTheFirmwareIsNoCleanBoot(t *testing.T) {
	e, probed, clean := leased()
	if o := Judge(e, probed, clean); !o.Proved {
		t.Fatalf("outcome = %+v", o)
	}
	clean.Boots[0].Network[0].Lease.Hostname = ""
	if o := Judge(e, probed, clean); o.Proved || !strings.HasPrefix(o.Cause, `clean-boot: the lease was taken by ""`) {
		t.Errorf("proved %v because of %q", o.Proved, o.Cause)
	}
}

func TestTheRouterOfALeaseIsAGateway(t *testing.T) {
	for _, c := range []struct {
		why    string
		mutate func(*wire.Report, *lan.Witness)
		cause  string
	}{
		{"its route", func(r *wire.Report, _ *lan.Witness) { r.Gateways = nil }, "gateway-reached: boot 2: none of [192.0.2.1]"},
		{"the answer of its router", func(r *wire.Report, _ *lan.Witness) { r.Gateways[0].Reached = false }, "gateway-reached: boot 2: none of [192.0.2.1]"},
		{"its first route", func(r *wire.Report, _ *lan.Witness) {
			r.Gateways[0].Metric = 100
			r.Gateways = append(r.Gateways, wire.Gate{Addr: wrong, Reached: true})
		}, "gateway-reached: boot 2: the guest sends through 192.0.2.254"},
		{"its way to strangers", func(_ *wire.Report, w *lan.Witness) { w.Routes[0].Via = wrong }, "network-witnessed-outside: boot 2: 192.0.2.10 answers strangers"},
	} {
		e, probed, clean := leased()
		c.mutate(&probed.Boots[1].Reports[1].Report, &probed.Boots[1].Network[0])
		if o := Judge(e, probed, clean); o.Proved || !strings.HasPrefix(o.Cause, c.cause) {
			t.Errorf("a guest on DHCP without %s: proved %v because of %q, want %q", c.why, o.Proved, o.Cause, c.cause)
		}
	}
}

func TestNothingIsProvedWithoutAnySession(t *testing.T) {
	o := Judge(expectation(), Session{}, Session{})
	no := func(a Answer) bool {
		return a.Name == "boot-target-reached" && !a.OK && a.Evidence == "the guest was not booted"
	}
	if o.Proved || !slices.ContainsFunc(o.Answers, no) {
		t.Errorf("outcome = %+v", o)
	}
}

func TestABootIsSettledOnceSystemdIs(t *testing.T) {
	b := goodProbed().Boots[0]
	if !Settled(expectation(), b) {
		t.Error("a good boot is not settled")
	}
	b.Reports[1].State = "starting"
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
		{"Please unlock disk sda3_crypt: ", "passphrase-prompt", true},
		{"\U0001f510 Please enter passphrase for disk QEMU_HARDDISK (data): (press TAB for no echo) ", "passphrase-prompt", true},
		{"Enter passphrase for /dev/vda2: ", "passphrase-prompt", true},
		{"Give root password for maintenance\n(or press Control-D to continue): ", "maintenance-prompt", true},
		{"\x1b[=3h\x1b[0;1;39mYou are in emergency mode. After logging in, type", "emergency-mode", true},
		{"dracut-initqueue[312]: Warning: dracut-initqueue timeout - starting timeout scripts", "dracut-timeout", false},
		{"error: no such device: 3f0e.\r\nEntering rescue mode...\r\ngrub rescue> ", "grub-rescue grub-no-such-device", true},
		{"Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.", "no-bootable-device boot-failed", true},
		{"Debian GNU/Linux 12 web01 ttyS0\n\nweb01 login: ", "login-prompt", false},
		{"Target filesystem doesn't have requested /sbin/init.\n/bin/sh: 0: can't access tty; job control turned off\n# ", "init-missing", false},
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
	r := goodReport("one", up)
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
