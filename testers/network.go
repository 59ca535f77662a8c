package testers

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
)

// above are a NIC and the bridges, bonds and VLANs on top of it.
func above(nics []wire.NIC, name string) []wire.NIC {
	var found []wire.NIC
	over := []string{name}
	for i := 0; i < len(over); i++ {
		for _, n := range nics {
			if n.Name == over[i] {
				found = append(found, n)
			}
			if slices.Contains(n.Lower, over[i]) && !slices.Contains(over, n.Name) {
				over = append(over, n.Name)
			}
		}
	}
	return found
}

// reachable are the addresses of a NIC and of what is on top of it.
func reachable(nics []wire.NIC, name string) []netip.Prefix {
	var addrs []netip.Prefix
	for _, n := range above(nics, name) {
		addrs = append(addrs, n.Addrs...)
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

func gatewaysReached(e Expect, b Boot, r probe.Received) (bool, string) {
	for _, want := range e.NICs {
		for _, gateway := range named(want) {
			i := slices.IndexFunc(r.Gateways, func(g wire.Gate) bool { return g.Addr == gateway })
			if i < 0 {
				return false, fmt.Sprintf("%v of %s is not a gateway of the guest, whose gateways are: %s", gateway, want.MAC, gates(r.Gateways))
			}
			if !r.Gateways[i].Reached {
				return false, fmt.Sprintf("%v of %s does not answer the guest", gateway, want.MAC)
			}
		}
	}
	meant := meantGateways(e, b)
	if len(meant) > 0 && !slices.ContainsFunc(r.Gateways, func(g wire.Gate) bool { return g.Reached && slices.Contains(meant, g.Addr) }) {
		return false, fmt.Sprintf("none of %v, which was leased to the guest, answers it; its gateways are: %s", meant, gates(r.Gateways))
	}
	for _, g := range preferred(r.Gateways) {
		if isDetour(e, meant, g.Addr) {
			return false, fmt.Sprintf("the guest sends through %v on %s, not through %v", g.Addr, g.Interface, meant)
		}
	}
	return true, gates(r.Gateways)
}

// named are the gateways that a NIC's configuration names.
func named(want lan.Expect) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{want.Gateway, want.Gateway6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// isDetour tells whether a neighbour is none of the gateways that are meant, all
// of whose family are known.
func isDetour(e Expect, meant []netip.Addr, through netip.Addr) bool {
	known := slices.ContainsFunc(meant, func(m netip.Addr) bool { return !through.IsValid() || m.Is4() == through.Is4() })
	other := slices.ContainsFunc(e.NICs, func(n lan.Expect) bool { return n.OtherWays })
	return known && !other && !slices.Contains(meant, through)
}

// meantGateways are the gateways that the guest's configuration names, and the
// routers that were leased to it.
func meantGateways(e Expect, b Boot) []netip.Addr {
	var meant []netip.Addr
	for _, want := range e.NICs {
		meant = append(meant, named(want)...)
		i := slices.IndexFunc(b.Network, func(w lan.Witness) bool { return w.MAC == want.MAC })
		if want.DHCP && i >= 0 && b.Network[i].Lease != nil {
			meant = append(meant, b.Network[i].Lease.Router)
		}
	}
	return meant
}

// preferred are the gateways of the routes that are taken: of each family those
// with the least metric.
func preferred(gates []wire.Gate) []wire.Gate {
	return slices.DeleteFunc(slices.Clone(gates), func(g wire.Gate) bool {
		return slices.ContainsFunc(gates, func(o wire.Gate) bool { return o.Addr.Is4() == g.Addr.Is4() && o.Metric < g.Metric })
	})
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
		missing = append(missing, foreign(b, want, b.Network[i])...)
		missing = append(missing, detours(e, b, b.Network[i])...)
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

// foreign are the MACs that answered for a NIC's addresses and are none of the
// guest's on that network: what answers is then not the guest, or not it alone.
// Bridges may have a MAC of their own, and another one while they are made. The
// probe alone knows them.
func foreign(b Boot, want lan.Expect, own lan.Witness) []string {
	r, ok := b.Last()
	if !ok {
		return nil
	}
	nic, _ := hardware(r.NICs, want.MAC)
	mine := []string{want.MAC}
	for _, n := range above(r.NICs, nic.Name) {
		mine = append(mine, n.MAC)
	}
	return answeredByOthers(own, mine, r.At)
}

// lately is how old an answer may be that still counts for now: a guest is asked
// every second.
const lately = 10 * time.Second

func answeredByOthers(own lan.Witness, mine []string, now time.Time) []string {
	var found []string
	for _, a := range own.Answering {
		said := fmt.Sprintf("%s answers for %v of %s, and is none of the guest's cards", a.MAC, a.Addr, own.MAC)
		if a.Last.After(now.Add(-lately)) && !slices.Contains(mine, a.MAC) && !slices.Contains(found, said) {
			found = append(found, said)
		}
	}
	return found
}

// detours are the answers to strangers that went through another neighbour than
// a gateway of the guest's. What did not arrive is not held against it.
func detours(e Expect, b Boot, own lan.Witness) []string {
	meant := meantGateways(e, b)
	var found []string
	for _, seen := range own.Routes {
		newest, _ := own.Route(seen.Addr)
		if seen == newest && isDetour(e, meant, seen.Via) {
			found = append(found, fmt.Sprintf("%v answers strangers through %v, not through %v", seen.Addr, via(seen), meant))
		}
	}
	return found
}

func via(r lan.Route) string {
	if !r.Via.IsValid() {
		return "nobody that it looked for"
	}
	return r.Via.String()
}

// isIn tells whether an address is in a network that a NIC should have one in.
func isIn(e Expect, mac string, a netip.Addr) bool {
	return slices.ContainsFunc(e.NICs, func(n lan.Expect) bool {
		return n.MAC == mac && slices.ContainsFunc(n.Static, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}
