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
	"hyper2kvm/testers/probe/wire"
)

// report changes the last report of a boot of the session with the probe.
func report(boot int, change func(*wire.Report)) func(*Expect, *Session, *Session) {
	return func(_ *Expect, probed, _ *Session) {
		reports := probed.Boots[boot].Reports
		change(&reports[len(reports)-1].Report)
	}
}

// mutation is a session that is wrong in one thing.
type mutation struct {
	why    string
	mutate func(e *Expect, probed, clean *Session)
	want   []string // testers that are not OK; the first is the cause
	says   string   // what the cause holds
}

var mutations = []mutation{
	{"one forged report", func(_ *Expect, p, _ *Session) { p.Forged = 1 }, []string{"report-authentic"}, "not signed"},

	{"a panic event", func(_ *Expect, p, _ *Session) { p.Events = append(p.Events, qmp.Event{Name: "GUEST_PANICKED"}) }, []string{"no-panic"}, "panicked"},
	{"a panic on serial before the reboot", func(_ *Expect, p, _ *Session) {
		p.Boots[0].Signs = Signs("[1.0] Kernel panic - not syncing: x", "serial", start)
	}, []string{"no-panic"}, "not syncing: x"},
	{"a panic on the screen of the clean boot", func(_ *Expect, _, c *Session) {
		c.Boots[0].Signs = Signs("[1.0] Kernel panic - not syncing: x", "screen", start)
	}, []string{"no-panic", "clean-boot"}, "not syncing: x"},
	{"events that nobody saw", func(_ *Expect, p, _ *Session) { p.LostEvents = 3 }, []string{"no-panic"}, "3 events"},
	{"a kernel that stumbled", report(1, func(r *wire.Report) { r.Tainted = 1<<7 | 1 }), []string{"no-panic"}, "oops"},
	{"a kernel with a module of somebody else's", report(1, func(r *wire.Report) { r.Tainted = 1<<12 | 1 }), nil, ""},

	{"a file system that was damaged on the way", func(_ *Expect, p, _ *Session) {
		p.Filesystems[1] = Filesystem{Device: "disk1p1", Type: "xfs", Damaged: true, Text: "bad magic"}
	}, []string{"filesystems-clean"}, "disk1p1 (xfs) is damaged: bad magic"},
	{"a file system that was damaged before, too", func(e *Expect, p, _ *Session) {
		e.Damaged = []string{"disk1p1"}
		p.Filesystems[1] = Filesystem{Device: "disk1p1", Damaged: true}
	}, nil, ""},
	{"file systems that nobody looked at", func(_ *Expect, p, _ *Session) { p.Filesystems = nil }, []string{"filesystems-clean"}, "no file system was looked at"},

	{"a target that is not reached after the reboot", report(1, func(r *wire.Report) { r.Kind, r.Jobs = wire.Starting, []string{"1 a.service start running"} }),
		[]string{"boot-target-reached"}, "boot 2: graphical.target is not active"},
	{"emergency mode", report(0, func(r *wire.Report) { r.Kind = wire.Emergency }), []string{"boot-target-reached"}, "emergency mode"},
	{"a system that goes down", report(1, func(r *wire.Report) { r.State = "stopping" }), []string{"boot-target-reached"}, "stopping"},
	{"a systemd that does not answer", report(1, func(r *wire.Report) { r.State = "" }), []string{"boot-target-reached"}, "not to be asked"},
	{"a system that still starts something", report(1, func(r *wire.Report) { r.State = "starting" }), nil, ""},

	{"a root that is read-only", report(0, func(r *wire.Report) { r.Root.Writable, r.Root.WriteErr = false, "read-only file system" }),
		[]string{"root-on-expected-disk"}, "read-only file system"},
	{"a root that is meant to be read-only", func(e *Expect, p, _ *Session) {
		e.ReadOnly = true
		p.Boots[0].Reports[1].Root.Writable = false
	}, nil, ""},
	{"a root on a disk of nobody's", report(0, func(r *wire.Report) { r.Root.Disks = []string{"vdc"} }), []string{"root-on-expected-disk"}, "vdc"},
	{"a root on the other disk", func(e *Expect, _, _ *Session) { e.Roots = []string{"web01-disk1"} }, []string{"root-on-expected-disk"}, "not on the expected disk"},
	{"a root on one disk of its mirror", func(e *Expect, _, _ *Session) { e.Roots = []string{"web01-disk0", "web01-disk1"} }, []string{"root-on-expected-disk"}, "and not on web01-disk1"},
	{"a root on both disks of its mirror", func(e *Expect, p, _ *Session) {
		e.Roots = []string{"web01-disk0", "web01-disk1"}
		p.Boots[0].Reports[1].Root.Disks, p.Boots[1].Reports[1].Root.Disks = []string{"vda", "vdb"}, []string{"vda", "vdb"}
	}, nil, ""},
	{"a root that is another file system of the same disk", report(1, func(r *wire.Report) { r.Root.UUID = "u9" }), []string{"root-on-expected-disk"}, "u9"},
	{"a root that is a snapshot of itself", func(e *Expect, p, _ *Session) {
		e.RootSubvolume = 256
		p.Boots[0].Reports[1].Root.Subvolume, p.Boots[1].Reports[1].Root.Subvolume = 256, 260
	}, []string{"root-on-expected-disk"}, "the subvolume 260, not 256"},
	{"a root whose kernel tells no subvolume", func(e *Expect, _, _ *Session) { e.RootSubvolume = 256 }, nil, ""},
	{"a root of which udev knows nothing", report(1, func(r *wire.Report) { r.Root.UUID = "" }), nil, ""},

	{"a data disk that is missing", report(1, func(r *wire.Report) { r.Disks = r.Disks[:1] }), []string{"all-disks-present"}, "web01-disk1 is missing"},
	{"a data disk of another size", report(1, func(r *wire.Report) { r.Disks = []wire.Disk{r.Disks[0], {Serial: "web01-disk1"}} }),
		[]string{"all-disks-present"}, "has 0 bytes"},

	{"a NIC without its driver", report(0, func(r *wire.Report) { r.NICs = []wire.NIC{{Name: "ens192", MAC: mac}, r.NICs[1]} }),
		[]string{"all-nics-present", "addresses-configured", "network-witnessed-outside"}, mac + " is missing"},
	{"a second NIC that is missing", func(e *Expect, p, c *Session) {
		e.NICs = append(e.NICs, lan.Expect{MAC: other})
		for _, b := range []*Boot{&p.Boots[0], &p.Boots[1], &c.Boots[0]} {
			b.Network = append(b.Network, lan.Witness{MAC: other})
		}
	}, []string{"all-nics-present"}, other + " is missing"},

	{"a data disk that is there and not mounted", report(1, func(r *wire.Report) { r.Mounts = r.Mounts[:1] }), []string{"all-mounts-present"}, "nothing is mounted at /srv"},
	{"another file system in the data's place", report(1, func(r *wire.Report) { r.Mounts[1].UUID = "u9" }), []string{"all-mounts-present"}, "u9"},
	{"another subvolume in the data's place", func(e *Expect, p, _ *Session) {
		e.Mounts[0].Subvolume = 257
		p.Boots[0].Reports[1].Mounts[1].Subvolume, p.Boots[1].Reports[1].Mounts[1].Subvolume = 257, 256
	}, []string{"all-mounts-present"}, "the subvolume 256, not 257"},
	{"another file system over the data", report(1, func(r *wire.Report) {
		r.Mounts = append(r.Mounts, wire.Mount{Path: "/srv", Source: "/dev/vdc", UUID: "u9"})
	}), []string{"all-mounts-present"}, "/dev/vdc"},
	{"data that cannot be written to", report(1, func(r *wire.Report) { r.Mounts[1].ReadOnly = true }), []string{"all-mounts-present"}, "cannot be written to"},
	{"data that is meant to be read-only", func(e *Expect, p, _ *Session) {
		e.Mounts[0].ReadOnly = true
		p.Boots[1].Reports[1].Mounts[1].ReadOnly = true
	}, nil, ""},
	{"no swap", report(0, func(r *wire.Report) { r.Swaps = nil }), []string{"all-mounts-present"}, "swap on no device"},

	{"a failed mount", report(0, func(r *wire.Report) { r.State, r.Failed = "degraded", []string{"srv.mount"} }), []string{"nothing-essential-failed"}, "srv.mount"},
	{"a failed network service", report(1, func(r *wire.Report) { r.State, r.Failed = "degraded", []string{"systemd-networkd-wait-online.service"} }),
		[]string{"nothing-essential-failed"}, "wait-online"},
	{"a failed mount that failed before, too", func(e *Expect, p, _ *Session) {
		e.MayFail = []string{"srv.mount"}
		p.Boots[0].Reports[1].Failed = e.MayFail
	}, nil, ""},
	{"a failed unit that is the guest's own business", report(0, func(r *wire.Report) { r.State, r.Failed = "degraded", []string{"shop.service"} }), nil, ""},
	{"a share of a file server that is not in the proof's network", report(0, func(r *wire.Report) {
		r.Failed, r.Remote = []string{"srv-nfs.mount"}, []string{"srv-nfs.mount"}
	}), nil, ""},
	{"failures that systemd does not name", report(0, func(r *wire.Report) { r.State, r.Trouble = "degraded", []string{"systemctl: killed"} }),
		[]string{"nothing-essential-failed"}, "systemctl: killed"},

	{"no address", report(0, func(r *wire.Report) {
		r.NICs = []wire.NIC{r.NICs[0], {Name: "br0", MAC: bridge, Lower: []string{"ens192"}}}
	}),
		[]string{"addresses-configured"}, "lacks 192.0.2.10/24"},
	{"an address of another network", report(0, func(r *wire.Report) { r.NICs[1].Addrs = []netip.Prefix{netip.MustParsePrefix("192.0.2.10/32")} }),
		[]string{"addresses-configured"}, "lacks 192.0.2.10/24"},
	{"an address on another NIC", report(0, func(r *wire.Report) { r.NICs[1].Lower = nil }), []string{"addresses-configured", "network-witnessed-outside"}, "lacks"},

	{"a gateway that does not answer", report(0, func(r *wire.Report) { r.Gateways[0].Reached = false }), []string{"gateway-reached"}, "192.0.2.1 of " + mac + " does not answer"},
	{"no default route", report(1, func(r *wire.Report) { r.Gateways = nil }), []string{"gateway-reached"}, "whose gateways are: none"},
	{"a wrong gateway", report(1, func(r *wire.Report) { r.Gateways[0].Addr = wrong }), []string{"gateway-reached"}, "192.0.2.254 on br0"},
	{"a wrong gateway that is preferred", report(1, func(r *wire.Report) {
		r.Gateways[0].Metric = 100
		r.Gateways = append(r.Gateways, wire.Gate{Addr: wrong, Interface: "br0", Metric: 50, Reached: true})
	}), []string{"gateway-reached"}, "through 192.0.2.254"},
	{"another gateway for when the first is gone", report(1, func(r *wire.Report) {
		r.Gateways = append(r.Gateways, wire.Gate{Addr: wrong, Interface: "br0", Metric: 50})
	}), nil, ""},

	{"an address that does not answer after the reboot", func(_ *Expect, p, _ *Session) { p.Boots[1].Network[0].Answering = nil },
		[]string{"network-witnessed-outside", "stayed-up"}, "does not answer for 192.0.2.10"},
	{"an address that nobody's card answers for", func(_ *Expect, p, _ *Session) { p.Boots[1].Network[0].Answering[0].MAC = nobody },
		[]string{"network-witnessed-outside"}, nobody},
	{"an address that another card answers for too", func(_ *Expect, p, _ *Session) {
		w := &p.Boots[1].Network[0]
		w.Answering = append(w.Answering, lan.Answer{Addr: address.Addr(), MAC: nobody, How: "arp", Last: p.Boots[1].Seen})
	}, []string{"network-witnessed-outside"}, nobody},
	{"an address that another card answered for while the bridge was made", func(_ *Expect, p, _ *Session) {
		w := &p.Boots[1].Network[0]
		w.Answering = append(w.Answering, lan.Answer{Addr: address.Addr(), MAC: nobody, How: "arp", Last: rebooted})
	}, nil, ""},
	{"answers to strangers that take another way", func(_ *Expect, p, _ *Session) { p.Boots[1].Network[0].Routes[0].Via = wrong },
		[]string{"network-witnessed-outside"}, "through 192.0.2.254"},
	{"answers to strangers that took another way at first", func(_ *Expect, p, _ *Session) {
		w := &p.Boots[1].Network[0]
		w.Routes = append(w.Routes, lan.Route{Addr: address.Addr(), Via: wrong, Last: rebooted})
	}, nil, ""},
	{"a firewall against strangers", func(_ *Expect, p, c *Session) {
		p.Boots[0].Network[0].Routes, p.Boots[1].Network[0].Routes, c.Boots[0].Network[0].Routes = nil, nil, nil
	}, nil, ""},

	{"another host name", report(0, func(r *wire.Report) { r.Hostname = "localhost" }), []string{"identity-kept"}, "localhost"},
	{"a machine ID made at boot", report(1, func(r *wire.Report) { r.MachineID = "m2" }), []string{"identity-kept", "reboot-survived"}, "m2"},

	{"a clock of another age", func(_ *Expect, p, _ *Session) {
		for i := range p.Boots[1].Reports {
			p.Boots[1].Reports[i].Clock = 1_000_000_000
			p.Boots[1].Reports[i].Uptime = 59
		}
	}, []string{"clock-kept"}, "2001-09-09"},
	{"a clock in another time zone", func(_ *Expect, p, _ *Session) {
		for i := range p.Boots[1].Reports {
			p.Boots[1].Reports[i].Clock -= 14 * 3600
		}
	}, nil, ""},
	{"a clock that jumps", report(1, func(r *wire.Report) { r.Clock -= 3600 }), []string{"clock-kept"}, "1h0m0s"},
	{"a clock that is set before the boot target", func(_ *Expect, p, _ *Session) {
		early := p.Boots[1].Reports[0]
		early.Kind, early.Clock = wire.Starting, early.Clock-3600
		p.Boots[1].Reports = slices.Insert(p.Boots[1].Reports, 0, early)
	}, nil, ""},

	{"the same boot ID twice", report(1, func(r *wire.Report) { r.BootID = "one" }), []string{"reboot-survived"}, "did not change"},
	{"a reset that the host made", func(_ *Expect, p, _ *Session) { p.Events[0].Data = json.RawMessage(`{"guest": false}`) }, []string{"reboot-survived"}, "no reset"},
	{"a reset from before the reboot", func(_ *Expect, p, _ *Session) { p.Events[0].At = start }, []string{"reboot-survived"}, "no reset"},
	{"a reboot that never happens", func(_ *Expect, p, _ *Session) {
		p.Boots, p.End, p.Detail = p.Boots[:1], Stopped, "the guest shut itself down"
	},
		[]string{"reboot-survived", "stayed-up"}, "1 boot seen, want one before and one after a reboot (stopped: the guest shut itself down)"},
	{"a second boot that hangs", func(_ *Expect, p, _ *Session) {
		p.Boots[1].Reports, p.Boots[1].Up, p.End, p.Detail = nil, time.Time{}, Hung, "nothing changed any more"
	}, []string{"boot-target-reached", "root-on-expected-disk", "all-disks-present", "all-nics-present", "all-mounts-present", "nothing-essential-failed",
		"addresses-configured", "gateway-reached", "identity-kept", "clock-kept", "reboot-survived", "stayed-up"}, "boot 2: no report (hung: nothing changed any more)"},

	{"a guest without init", func(_ *Expect, p, c *Session) {
		p.Boots, p.End, p.Detail = []Boot{{At: start, Signs: Signs("Target filesystem doesn't have requested /sbin/init.", "serial", start)}}, Hung, "nothing changed"
		*c = Session{}
	}, []string{"boot-target-reached", "root-on-expected-disk", "all-disks-present", "all-nics-present", "all-mounts-present", "nothing-essential-failed",
		"addresses-configured", "gateway-reached", "network-witnessed-outside", "identity-kept", "clock-kept", "reboot-survived", "stayed-up", "clean-boot"},
		"doesn't have requested /sbin/init"},

	{"a guest that shuts down when it has come up", func(_ *Expect, p, _ *Session) {
		p.Boots[1].Seen, p.End, p.Detail = upAgain.Add(12*time.Second), Stopped, "the guest shut itself down"
	}, []string{"stayed-up"}, "boot 2: it was up for 12 s, less than the 20 s that it is watched (stopped: the guest shut itself down)"},
	{"a guest that was not well at the end", func(_ *Expect, p, _ *Session) { p.Boots[1].Up = time.Time{} }, []string{"stayed-up"}, "not well"},
	{"a guest that nobody watched", func(_ *Expect, p, _ *Session) { p.Watch = 0 }, []string{"stayed-up"}, "not well"},
	{"a probe that falls silent", func(_ *Expect, p, _ *Session) { p.Boots[1].Reports = p.Boots[1].Reports[:1] }, []string{"stayed-up"}, "the probe has not reported for 21 s"},
	{"an address that falls silent", func(_ *Expect, p, _ *Session) { p.Boots[1].Network[0].Answering[0].Last = upAgain },
		[]string{"stayed-up"}, "192.0.2.10 does not answer any more"},
	{"a machine that died at the very end", func(_ *Expect, p, _ *Session) { p.End, p.Detail = Died, "QEMU ended: killed" }, []string{"stayed-up"}, "killed"},

	{"a clean boot whose address is silent", func(_ *Expect, _, c *Session) { c.Boots[0].Network[0].Answering = nil }, []string{"clean-boot"}, "does not answer for 192.0.2.10"},
	{"a clean boot whose address falls silent", func(_ *Expect, _, c *Session) { c.Boots[0].Network[0].Answering[0].Last = up },
		[]string{"clean-boot"}, "192.0.2.10 does not answer any more"},
	{"a clean boot with a wrong gateway", func(_ *Expect, _, c *Session) { c.Boots[0].Network[0].Routes[0].Via = wrong }, []string{"clean-boot"}, "192.0.2.254"},
	{"a clean boot without a gateway", func(_ *Expect, _, c *Session) { c.Boots[0].Network[0].Routes = nil }, []string{"clean-boot"}, "strangers"},
	{"a clean boot whose address nobody's card answers for", func(_ *Expect, _, c *Session) { c.Boots[0].Network[0].Answering[0].MAC = nobody }, []string{"clean-boot"}, nobody},
	{"a clean boot that ends in emergency mode", func(_ *Expect, _, c *Session) {
		c.Boots[0].Signs = Signs("You are in emergency mode. After logging in", "screen", start)
	}, []string{"clean-boot"}, "emergency mode"},
	{"a clean boot that shuts down", func(_ *Expect, _, c *Session) { c.End, c.Detail = Stopped, "the guest shut itself down" }, []string{"clean-boot"}, "shut itself down"},
	{"a clean boot that is watched for too short a time", func(_ *Expect, _, c *Session) { c.Boots[0].Seen = up }, []string{"clean-boot"}, "less than the 20 s"},
	{"a clean boot that restarts", func(_ *Expect, _, c *Session) { c.Boots = append(c.Boots, c.Boots[0]) }, []string{"clean-boot"}, "restarted by itself"},
	{"a clean boot with the probe in it", func(_ *Expect, _, c *Session) { c.Probe = true }, []string{"clean-boot"}, "the probe was in it"},
	{"no clean boot", func(_ *Expect, _, c *Session) { *c = Session{} }, []string{"clean-boot"}, "no boot without the probe"},
}

// TestEachTesterFailsOnItsOwnMutant: one thing is wrong, and only the testers
// that ask for it say so.
func TestEachTesterFailsOnItsOwnMutant(t *testing.T) {
	for _, c := range mutations {
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
		if o.Proved != (len(c.want) == 0) || len(c.want) > 0 && !strings.HasPrefix(o.Cause, c.want[0]+": ") || !strings.Contains(o.Cause, c.says) {
			t.Errorf("%s: proved %v because of %q, want %q in it", c.why, o.Proved, o.Cause, c.says)
		}
	}
}

// Each tester is asked for a reason: there is a mutant that it alone tells.
func TestEveryTesterAloneTellsAMutant(t *testing.T) {
	for _, tester := range All() {
		if !slices.ContainsFunc(mutations, func(m mutation) bool { return slices.Equal(m.want, []string{tester.Name}) }) {
			t.Errorf("no mutant fails %s alone", tester.Name)
		}
	}
}
