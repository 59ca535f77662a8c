package lan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// macOf is a neighbour's MAC, made of its address, so that a frame tells which
// neighbour it is for: a guest with a wrong gateway says so by that. It is
// locally administered, so no vendor's card has it.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.Unmap().AsSlice()
	return append(net.HardwareAddr{0x02, 0x68}, b[max(0, len(b)-4):]...)
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A guest may claim addresses without end; these many are remembered.
const (
	maxAddrs   = 64
	maxSources = 16
	maxVLANs   = 8
	// maxHows is how many answers and routes for each expected address are kept
	// beyond maxAddrs: ARP or NDP, and a ping.
	maxHows = 2
)

// station is the network's logic without its wire: frames go in, frames come
// out. Every frame that goes in comes from a guest and is hostile.
type station struct {
	expect Expect
	router netip.Addr          // of Network
	lease  netip.Prefix        // what DHCP gives out
	asked  map[netip.Addr]bool // that the guest was asked for, of late
	seen   Witness
}

// leases are where addresses are leased from if nothing else is said (RFC 5737).
var leases = netip.MustParsePrefix("192.0.2.0/24")

// Leasing is the network that addresses are leased from.
func (e Expect) Leasing() netip.Prefix {
	if e.Network.IsValid() {
		return e.Network
	}
	return leases
}

func newStation(e Expect) (*station, error) {
	network := e.Leasing()
	if !network.Addr().Is4() || network.Bits() > 26 {
		return nil, fmt.Errorf("network of %s: %v has no room for leases", e.MAC, network)
	}
	for _, p := range e.Static {
		if !p.IsValid() {
			return nil, fmt.Errorf("network of %s: an expected address is not valid", e.MAC)
		}
	}
	base := network.Masked().Addr().As4()
	base[3]++
	s := &station{expect: e, router: netip.AddrFrom4(base)}
	base[3] += 49
	s.lease = netip.PrefixFrom(netip.AddrFrom4(base), network.Bits())
	s.restart()
	return s, nil
}

func (s *station) restart() {
	s.seen, s.asked = Witness{MAC: s.expect.MAC}, map[netip.Addr]bool{}
}

// witness is a copy that does not change any more.
func (s *station) witness() Witness {
	w := s.seen
	w.Sources, w.Answering, w.Claimed = slices.Clone(w.Sources), slices.Clone(w.Answering), slices.Clone(w.Claimed)
	w.Wanted, w.VLANs, w.Routes = slices.Clone(w.Wanted), slices.Clone(w.VLANs), slices.Clone(w.Routes)
	if w.Lease != nil {
		lease := *w.Lease
		w.Lease = &lease
	}
	return w
}

// link is the way between the guest and one of its neighbours.
type link struct {
	mac  net.HardwareAddr // the guest's, or everyone's
	ours net.HardwareAddr // the neighbour's
	vlan uint16           // 0: untagged
}

// as is the same way from the neighbour that has an address.
func (l link) as(a netip.Addr) link { return link{l.mac, macOf(a), l.vlan} }

// receive notes what a frame says and returns what to answer. Decoding does
// not panic: gopacket recovers and leaves the layers that it understood.
func (s *station) receive(frame []byte, at time.Time) [][]byte {
	s.seen.Frames++
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	if p.ErrorLayer() != nil {
		s.seen.Malformed++
	}
	eth, ok := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok {
		return nil
	}
	from := link{mac: slices.Clone(eth.SrcMAC), ours: slices.Clone(eth.DstMAC)}
	if from.ours[0]&1 != 0 { // for everyone, of whom the router answers
		from = from.as(s.router)
	}
	if tag, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok {
		from.vlan = tag.VLANIdentifier
	}
	s.note(from, at)
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		return s.arp(arp, from, at)
	}
	if ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok {
		return s.ipv4(p, ip, from, at)
	}
	if ip, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ok {
		return s.ipv6(p, ip, from, at)
	}
	return nil
}

func (s *station) note(from link, at time.Time) {
	if s.seen.FirstSeen.IsZero() {
		s.seen.FirstSeen = at
	}
	s.seen.LastSeen = at
	remember(&s.seen.Sources, from.mac.String(), maxSources)
	if from.vlan != 0 {
		remember(&s.seen.VLANs, from.vlan, maxVLANs)
	}
}

func (s *station) claim(a netip.Addr) {
	if a.IsValid() && !a.IsUnspecified() {
		remember(&s.seen.Claimed, a, maxAddrs)
	}
}

// answered notes an answer to a question of ours. What was not asked for, since
// the guest was reset, is a claim and proves nothing: what it said before the
// reset may arrive after it.
func (s *station) answered(a netip.Addr, from link, how string, at time.Time) {
	known := slices.IndexFunc(s.seen.Answering, func(seen Answer) bool {
		return seen.Addr == a && seen.MAC == from.mac.String() && seen.How == how && seen.VLAN == from.vlan
	})
	switch {
	case !s.asked[a]:
	case known >= 0:
		s.seen.Answering[known].Last = at
	case len(s.seen.Answering) < s.room():
		s.seen.Answering = append(s.seen.Answering, Answer{Addr: a, MAC: from.mac.String(), VLAN: from.vlan, How: how, At: at, Last: at})
	}
}

// room is how many answers are kept.
func (s *station) room() int { return maxAddrs + maxHows*len(s.own()) }

// routed notes through which neighbour an answer went to a stranger.
func (s *station) routed(a netip.Addr, from link, at time.Time) {
	r := Route{Addr: a, Via: s.neighbour(from.ours), VLAN: from.vlan, Last: at}
	known := slices.IndexFunc(s.seen.Routes, func(seen Route) bool {
		return seen.Addr == r.Addr && seen.Via == r.Via && seen.VLAN == r.VLAN
	})
	switch {
	case !s.asked[a]:
	case known >= 0:
		s.seen.Routes[known].Last = at
	case len(s.seen.Routes) < s.room():
		s.seen.Routes = append(s.seen.Routes, r)
	}
}

// neighbour is who has a MAC, among those that the guest may know.
func (s *station) neighbour(mac net.HardwareAddr) netip.Addr {
	for _, a := range append([]netip.Addr{s.expect.Gateway, s.expect.Gateway6, s.router}, s.seen.Wanted...) {
		if a.IsValid() && slices.Equal(macOf(a), mac) {
			return a
		}
	}
	return netip.Addr{}
}

func remember[T comparable](list *[]T, v T, limit int) {
	if len(*list) < limit && !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
}

// frame builds what goes to the guest. Serializing our own layers fails only
// if we built them wrongly; such a frame is not sent.
func frame(to link, kind layers.EthernetType, body ...gopacket.SerializableLayer) [][]byte {
	all := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: to.ours, DstMAC: to.mac, EthernetType: kind}}
	if to.vlan != 0 {
		all[0].(*layers.Ethernet).EthernetType = layers.EthernetTypeDot1Q
		all = append(all, &layers.Dot1Q{VLANIdentifier: to.vlan, Type: kind})
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(all, body...)...)
	if err != nil {
		return nil
	}
	return [][]byte{b.Bytes()}
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b) // the zero address if it is none
	return a.Unmap()
}
