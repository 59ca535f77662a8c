package testers

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
)

// question is what is asked of each boot with the probe, before and after the
// reboot.
type question func(e Expect, b Boot) (ok bool, evidence string)

// perBoot are the questions that a single boot answers.
var perBoot = []question{targetReached, reported(nothingFailed), reported(rootMounted), reported(disksPresent),
	reported(mountsPresent), reported(nicsPresent), reported(addressesConfigured), reported(gatewaysReached),
	networkWitnessed, reported(identityKept)}

// reported asks the newest report of a boot; without one there is no answer.
func reported(ask func(Expect, Boot, probe.Received) (bool, string)) question {
	return func(e Expect, b Boot) (bool, string) {
		r, ok := b.Last()
		if !ok {
			return false, "no report"
		}
		return ask(e, b, r)
	}
}

func targetReached(_ Expect, b Boot) (bool, string) {
	r, ok := b.Last()
	if !ok {
		if sign, fatal := Fatal(b.Signs); fatal {
			return false, sign.String()
		}
		return false, "no report"
	}
	switch r.Kind {
	case wire.Reached:
		return true, fmt.Sprintf("%s after %.0f s, system %s", r.Target, r.Uptime, r.State)
	case wire.Emergency:
		return false, "the guest is in emergency mode: " + sentence(append(telling(r.Journal), r.Failed...))
	}
	return false, fmt.Sprintf("%s is not active after %.0f s; waiting for: %s", r.Target, r.Uptime, sentence(running(r.Jobs)))
}

// telling are the lines in which systemd says what did not come up: the units
// themselves did not fail when what they wait for never came.
func telling(journal []string) []string {
	var found []string
	for _, line := range journal {
		_, message, _ := strings.Cut(line, " systemd[1]: ")
		known := strings.HasPrefix(message, "Timed out waiting for") || strings.HasPrefix(message, "Dependency failed for") || strings.HasPrefix(message, "Failed to ")
		if known && len(found) < 4 {
			found = append(found, message)
		}
	}
	return found
}

// running are the jobs that the others wait for.
func running(jobs []string) []string {
	return slices.DeleteFunc(slices.Clone(jobs), func(j string) bool { return strings.HasSuffix(j, " waiting") })
}

// essential are the units without which a guest is broken, whatever else runs.
var essential = []string{
	"*.mount", "*.swap", "*.target", "systemd-*.service", "lvm2-*", "cryptsetup*", "systemd-cryptsetup@*", "mdadm*",
	"dbus*.service", "networking.service", "network.service", "ifup@*", "NetworkManager*.service", "wicked*.service",
	"netplan*", "ssh.service", "sshd.service", "kmod*.service", "udev*.service", "rc-local.service",
}

func nothingFailed(e Expect, _ Boot, r probe.Received) (bool, string) {
	var broken, tolerated []string
	for _, unit := range r.Failed {
		// What only a network serves cannot be there: the guest's leads nowhere.
		if isEssential(unit) && !slices.Contains(e.MayFail, unit) && !slices.Contains(r.Remote, unit) {
			broken = append(broken, unit)
			continue
		}
		tolerated = append(tolerated, unit)
	}
	if len(broken) > 0 {
		return false, "failed: " + sentence(broken)
	}
	if len(tolerated) > 0 {
		return true, "failed, and not essential: " + sentence(tolerated)
	}
	return true, "no unit failed"
}

func isEssential(unit string) bool {
	return slices.ContainsFunc(essential, func(pattern string) bool {
		ok, err := path.Match(pattern, unit)
		return ok && err == nil
	})
}

func rootMounted(e Expect, _ Boot, r probe.Received) (bool, string) {
	if !r.Root.Writable && !e.ReadOnly {
		return false, fmt.Sprintf("%s cannot be written to: %s", r.Root.Source, r.Root.WriteErr)
	}
	var on []string
	for _, d := range r.Disks {
		if slices.Contains(r.Root.Disks, d.Name) && isExpectedRoot(e, d.Serial) {
			on = append(on, fmt.Sprintf("%s (%s, %s)", d.Name, d.Serial, strings.Join(d.Drivers, " < ")))
		}
	}
	if len(on) == 0 {
		return false, fmt.Sprintf("/ is %s on %s, not on the expected disk", r.Root.Source, strings.Join(r.Root.Disks, ", "))
	}
	return true, fmt.Sprintf("/ is %s, %s, on %s", r.Root.Source, r.Root.Type, sentence(on))
}

func isExpectedRoot(e Expect, serial string) bool {
	if e.Root != "" {
		return serial == e.Root
	}
	return slices.ContainsFunc(e.Disks, func(d Disk) bool { return d.Serial == serial })
}

func disksPresent(e Expect, _ Boot, r probe.Received) (bool, string) {
	var missing, found []string
	for _, want := range e.Disks {
		i := slices.IndexFunc(r.Disks, func(d wire.Disk) bool { return d.Serial == want.Serial })
		switch {
		case i < 0:
			missing = append(missing, want.Serial+" is missing")
		case want.Size != 0 && r.Disks[i].Size != want.Size:
			missing = append(missing, fmt.Sprintf("%s has %d bytes, not %d", want.Serial, r.Disks[i].Size, want.Size))
		default:
			found = append(found, want.Serial+" is "+r.Disks[i].Name)
		}
	}
	return len(missing) == 0, sentence(append(missing, found...))
}

func mountsPresent(e Expect, _ Boot, r probe.Received) (bool, string) {
	var missing, found []string
	for _, want := range e.Mounts {
		i := slices.IndexFunc(r.Mounts, func(m wire.Mount) bool { return m.Path == want })
		if i < 0 {
			missing = append(missing, "nothing is mounted at "+want)
			continue
		}
		found = append(found, fmt.Sprintf("%s is %s, %s", want, r.Mounts[i].Source, r.Mounts[i].Type))
	}
	swaps := fmt.Sprintf("swap on %s, of %d expected", cmp.Or(strings.Join(r.Swaps, ", "), "no device"), e.Swaps)
	if len(r.Swaps) < e.Swaps {
		missing = append(missing, swaps)
	}
	if len(missing) > 0 {
		return false, sentence(missing)
	}
	return true, sentence(append(found, swaps))
}

func nicsPresent(e Expect, _ Boot, r probe.Received) (bool, string) {
	var missing, found []string
	for _, want := range e.NICs {
		nic, ok := hardware(r.NICs, want.MAC)
		if !ok {
			missing = append(missing, want.MAC+" is missing")
			continue
		}
		found = append(found, fmt.Sprintf("%s is %s (%s)", want.MAC, nic.Name, nic.Driver))
	}
	return len(missing) == 0, sentence(append(missing, found...))
}

// hardware is the network interface with a MAC of its own that has a driver.
func hardware(nics []wire.NIC, mac string) (wire.NIC, bool) {
	i := slices.IndexFunc(nics, func(n wire.NIC) bool { return n.Driver != "" && cmp.Or(n.Permanent, n.MAC) == mac })
	if i < 0 {
		return wire.NIC{}, false
	}
	return nics[i], true
}

// reachable are a NIC's own addresses and those of the bridges, bonds and VLANs
// on top of it.
func reachable(nics []wire.NIC, name string) []netip.Prefix {
	var addrs []netip.Prefix
	over := []string{name}
	for i := 0; i < len(over); i++ {
		for _, n := range nics {
			if n.Name == over[i] {
				addrs = append(addrs, n.Addrs...)
			}
			if slices.Contains(n.Lower, over[i]) && !slices.Contains(over, n.Name) {
				over = append(over, n.Name)
			}
		}
	}
	return addrs
}

func addressesConfigured(e Expect, b Boot, r probe.Received) (bool, string) {
	var missing, found []string
	for _, want := range e.NICs {
		nic, ok := hardware(r.NICs, want.MAC)
		have := reachable(r.NICs, nic.Name)
		for _, p := range want.Static {
			if !ok || !slices.Contains(have, p) {
				missing = append(missing, fmt.Sprintf("%s lacks %v; it has %v", want.MAC, p, have))
			}
		}
		if leased := leasedTo(b, want.MAC); want.DHCP && !slices.ContainsFunc(have, func(p netip.Prefix) bool { return p.Addr() == leased }) {
			missing = append(missing, fmt.Sprintf("%s lacks its leased address; it has %v", want.MAC, have))
		}
		found = append(found, fmt.Sprintf("%s has %v", want.MAC, have))
	}
	if len(missing) > 0 {
		return false, sentence(missing)
	}
	return true, sentence(found)
}

func leasedTo(b Boot, mac string) netip.Addr {
	for _, w := range b.Network {
		if w.MAC == mac && w.Lease != nil {
			return w.Lease.Addr
		}
	}
	return netip.Addr{}
}

func gatewaysReached(e Expect, _ Boot, r probe.Received) (bool, string) {
	for _, want := range e.NICs {
		for _, gateway := range []netip.Addr{want.Gateway, want.Gateway6} {
			if gateway.IsValid() && !slices.ContainsFunc(r.Gateways, func(g wire.Gate) bool { return g.Addr == gateway && g.Reached }) {
				return false, fmt.Sprintf("%v of %s does not answer the guest, whose gateways are %s", gateway, want.MAC, gates(r.Gateways))
			}
		}
	}
	return true, gates(r.Gateways)
}

func gates(found []wire.Gate) string {
	var parts []string
	for _, g := range found {
		state := "does not answer"
		if g.Reached {
			state = "answers"
		}
		parts = append(parts, fmt.Sprintf("%v on %s %s", g.Addr, g.Interface, state))
	}
	return cmp.Or(sentence(parts), "none")
}

func networkWitnessed(e Expect, b Boot) (bool, string) {
	var missing, seen []string
	for _, want := range e.NICs {
		i := slices.IndexFunc(b.Network, func(w lan.Witness) bool { return w.MAC == want.MAC })
		if i < 0 {
			missing = append(missing, want.MAC+" was not watched")
			continue
		}
		missing = append(missing, b.Network[i].Missing(want)...)
		missing = append(missing, misplaced(e, b, want, b.Network[i])...)
		seen = append(seen, b.Network[i].String())
	}
	if len(missing) > 0 {
		return false, sentence(missing)
	}
	return true, cmp.Or(sentence(seen), "no interface is expected")
}

// misplaced are a NIC's addresses that the guest has on another one: Linux
// answers ARP on every interface for the addresses of all of them, but what it
// says after that, the answer to a ping too, goes where the address is. Two NICs
// in one network may speak for each other.
//
// Source: Linux, Documentation/networking/ip-sysctl.rst, arp_ignore.
func misplaced(e Expect, b Boot, want lan.Expect, own lan.Witness) []string {
	var found []string
	for _, p := range want.Static {
		pinged := slices.ContainsFunc(own.Answering, func(a lan.Answer) bool { return a.Addr == p.Addr() && a.How == "ping" })
		i := slices.IndexFunc(b.Network, func(w lan.Witness) bool {
			return w.MAC != want.MAC && slices.Contains(w.Claimed, p.Addr()) && !isIn(e, w.MAC, p.Addr())
		})
		if !pinged && i >= 0 {
			found = append(found, fmt.Sprintf("%v of %s is used on %s", p.Addr(), want.MAC, b.Network[i].MAC))
		}
	}
	return found
}

// isIn tells whether an address is in a network that a NIC should have one in.
func isIn(e Expect, mac string, a netip.Addr) bool {
	return slices.ContainsFunc(e.NICs, func(n lan.Expect) bool {
		return n.MAC == mac && slices.ContainsFunc(n.Static, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

func identityKept(e Expect, _ Boot, r probe.Received) (bool, string) {
	if e.Hostname != "" && !sameHost(r.Hostname, e.Hostname) {
		return false, fmt.Sprintf("host name is %q, not %q", r.Hostname, e.Hostname)
	}
	if e.MachineID != "" && r.MachineID != e.MachineID {
		return false, fmt.Sprintf("machine ID is %q, not %q", r.MachineID, e.MachineID)
	}
	return true, fmt.Sprintf("host name %q, machine ID %q", r.Hostname, r.MachineID)
}

// sameHost compares first labels: /etc/hostname may or may not hold the domain.
func sameHost(a, b string) bool {
	a, _, _ = strings.Cut(a, ".")
	b, _, _ = strings.Cut(b, ".")
	return strings.EqualFold(a, b)
}
