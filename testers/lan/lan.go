// Package lan is the network that a guest under proof is plugged into: it
// answers as every neighbour that the guest may look for, and it witnesses from
// outside which addresses the guest answers for, so that a static address is
// proved without any help from inside. Nothing is ever forwarded.
//
// Segment: the network of one NIC, a socket that QEMU connects to. Expect: what
// the NIC should do. Witness: what it was seen to do.
package lan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Expect is what one NIC of the guest should do on its network.
type Expect struct {
	MAC      string         `json:"mac"` // lower case, colons
	Static   []netip.Prefix `json:"static,omitempty"`
	Gateway  netip.Addr     `json:"gateway,omitzero"`
	Gateway6 netip.Addr     `json:"gateway6,omitzero"`
	DHCP     bool           `json:"dhcp,omitempty"` // an IPv4 address must be leased
	// Unasked is what the NIC is configured for and not expected to show, with
	// the reason: addresses on VLANs, interfaces that are not brought up at boot.
	Unasked []string `json:"unasked,omitempty"`
	// OtherWays: what is not asked of the NIC may lead out through gateways that
	// are not known here.
	OtherWays bool `json:"other_ways,omitempty"`
	// Network is where leases come from: its first address is the router, the
	// guest gets the fiftieth. The zero value is 192.0.2.0/24 (RFC 5737).
	// Leases are given whether DHCP is expected or not: that a guest asks is
	// worth knowing.
	Network netip.Prefix `json:"network,omitzero"`
	// Beside are the networks of the guest's other NICs: what comes from there is
	// answered through those.
	Beside []netip.Prefix `json:"beside,omitempty"`
}

// Witness is what was seen of one NIC from outside.
type Witness struct {
	MAC       string       `json:"mac"`       // the expected one
	Sources   []string     `json:"sources"`   // MACs that frames came from, at most 16
	Frames    int64        `json:"frames"`    // that the guest sent
	Malformed int64        `json:"malformed"` // of them, that could not be read
	FirstSeen time.Time    `json:"first_seen,omitzero"`
	LastSeen  time.Time    `json:"last_seen,omitzero"`
	Answering []Answer     `json:"answering"`        // addresses that answered us
	Routes    []Route      `json:"routes,omitempty"` // the ways that answers to a stranger took
	Claimed   []netip.Addr `json:"claimed"`          // addresses that the guest said are its own
	Wanted    []netip.Addr `json:"wanted"`           // neighbours that the guest looked for
	Lease     *Lease       `json:"lease,omitempty"`
	VLANs     []uint16     `json:"vlans,omitempty"` // tags seen
}

// Answer is an address that the guest proved to be its own by answering.
type Answer struct {
	Addr netip.Addr `json:"addr"`
	MAC  string     `json:"mac"`
	VLAN uint16     `json:"vlan,omitempty"`
	How  string     `json:"how"`  // arp, ndp, ping
	At   time.Time  `json:"at"`   // the first time
	Last time.Time  `json:"last"` // the last time
}

// Route is the way that the guest's answer took to a stranger, who is in none
// of its networks: through one of its neighbours, which should be its gateway.
type Route struct {
	Addr netip.Addr `json:"addr"`         // the guest's own, which the stranger pinged
	Via  netip.Addr `json:"via,omitzero"` // zero if it is not a neighbour that the guest looked for
	VLAN uint16     `json:"vlan,omitempty"`
	Last time.Time  `json:"last"` // the last time
}

// Lease is an address that the guest asked for by DHCP and took.
type Lease struct {
	Addr     netip.Addr `json:"addr"`
	Router   netip.Addr `json:"router"`             // that came with it
	Hostname string     `json:"hostname,omitempty"` // as the guest named itself
	At       time.Time  `json:"at"`
}

// Missing says in sentences what is expected and was not witnessed.
func (w Witness) Missing(e Expect) []string {
	var missing []string
	for _, p := range e.Static {
		if !w.Answers(p.Addr()) {
			missing = append(missing, fmt.Sprintf("%s does not answer for %v", e.MAC, p.Addr()))
		}
	}
	if e.DHCP && w.Lease == nil {
		missing = append(missing, fmt.Sprintf("%s did not take a lease", e.MAC))
	}
	if e.DHCP && w.Lease != nil && !w.Answers(w.Lease.Addr) {
		missing = append(missing, fmt.Sprintf("%s does not answer for %v, which was leased to it", e.MAC, w.Lease.Addr))
	}
	return missing
}

// Answers tells whether the guest answered for an address.
func (w Witness) Answers(a netip.Addr) bool {
	return slices.ContainsFunc(w.Answering, func(seen Answer) bool { return seen.Addr == a })
}

// Silent are the addresses that are expected and have not answered since then.
func (w Witness) Silent(e Expect, since time.Time) []netip.Addr {
	var silent []netip.Addr
	for _, a := range w.expected(e) {
		if !slices.ContainsFunc(w.Answering, func(seen Answer) bool { return seen.Addr == a && !seen.Last.Before(since) }) {
			silent = append(silent, a)
		}
	}
	return silent
}

// expected are the addresses that are expected, the leased one included.
func (w Witness) expected(e Expect) []netip.Addr {
	var addrs []netip.Addr
	for _, p := range e.Static {
		addrs = append(addrs, p.Addr())
	}
	if e.DHCP && w.Lease != nil {
		addrs = append(addrs, w.Lease.Addr)
	}
	return addrs
}

// Route is the way that the newest answer of an address to a stranger took; ok
// is false if there was none: a firewall may drop the question.
func (w Witness) Route(a netip.Addr) (newest Route, ok bool) {
	for _, r := range w.Routes {
		if r.Addr == a && (!ok || r.Last.After(newest.Last)) {
			newest, ok = r, true
		}
	}
	return newest, ok
}

// String is one line for people.
func (w Witness) String() string {
	var how []string
	for _, a := range w.Answering {
		how = append(how, fmt.Sprintf("%v (%s)", a.Addr, a.How))
	}
	for _, r := range w.Routes {
		how = append(how, fmt.Sprintf("%v (strangers, through %v)", r.Addr, r.Via))
	}
	if w.Lease != nil {
		how = append(how, fmt.Sprintf("%v leased", w.Lease.Addr))
	}
	if len(how) == 0 {
		return fmt.Sprintf("%s: silent after %d frames", w.MAC, w.Frames)
	}
	return w.MAC + ": " + strings.Join(how, ", ")
}
