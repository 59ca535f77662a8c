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

// everyone is the one MAC behind which all the guest's neighbours live. It is
// locally administered, so no vendor's card has it.
var everyone = net.HardwareAddr{0x02, 0x68, 0x32, 0x6b, 0x00, 0x01}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A guest may claim addresses without end; these many are remembered.
const (
	maxAddrs   = 64
	maxSources = 16
	maxVLANs   = 8
	// maxHows is how many answers for each expected address are kept beyond
	// maxAddrs: ARP or NDP, and a ping.
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

func newStation(e Expect) (*station, error) {
	network := e.Network
	if !network.IsValid() {
		network = netip.MustParsePrefix("192.0.2.0/24")
	}
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
	w.Wanted, w.VLANs = slices.Clone(w.Wanted), slices.Clone(w.VLANs)
	if w.Lease != nil {
		lease := *w.Lease
		w.Lease = &lease
	}
	return w
}

// link is where an answer goes: the MAC and VLAN that a frame came from.
type link struct {
	mac  net.HardwareAddr
	vlan uint16 // 0: untagged
}

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
	from := link{mac: slices.Clone(eth.SrcMAC)}
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

// questions ask the guest for every address that it should have, untagged and
// on every VLAN that it was heard on.
func (s *station) questions() [][]byte {
	var out [][]byte
	for _, vlan := range append([]uint16{0}, s.seen.VLANs...) {
		for _, p := range s.own() {
			out = append(out, s.question(p, vlan)...)
		}
	}
	return out
}

func (s *station) question(p netip.Prefix, vlan uint16) [][]byte {
	s.asked[p.Addr()] = true
	answered := slices.IndexFunc(s.seen.Answering, func(a Answer) bool { return a.Addr == p.Addr() && a.VLAN == vlan })
	if answered < 0 {
		if p.Addr().Is4() {
			return s.arpRequest(p, vlan)
		}
		return s.solicit(p, vlan)
	}
	mac, err := net.ParseMAC(s.seen.Answering[answered].MAC)
	if err != nil {
		return nil // cannot be: it was made from one
	}
	return s.ping(p, link{mac, vlan})
}

// own is every address that the guest is to have: never answered for, always
// asked for.
func (s *station) own() []netip.Prefix {
	own := slices.Clone(s.expect.Static)
	if s.seen.Lease != nil {
		own = append(own, s.lease)
	}
	return own
}

// asker is the address from which the guest is asked for one of its own: its
// gateway, or else a neighbour in the same network.
func (s *station) asker(p netip.Prefix) netip.Addr {
	if p == s.lease {
		return s.router
	}
	for _, g := range []netip.Addr{s.expect.Gateway, s.expect.Gateway6} {
		if g.IsValid() && g.Is4() == p.Addr().Is4() && !s.isOwn(g) {
			return g
		}
	}
	neighbour := p.Masked().Addr().Next()
	for s.isOwn(neighbour) { // a guest hears nobody who has its own address
		neighbour = neighbour.Next()
	}
	return neighbour
}

func (s *station) isOwn(a netip.Addr) bool {
	return slices.ContainsFunc(s.own(), func(p netip.Prefix) bool { return p.Addr() == a })
}

// isGuests tells whether an address is the guest's own, as expected or as it
// says itself.
func (s *station) isGuests(a netip.Addr) bool {
	return slices.Contains(s.seen.Claimed, a) || s.isOwn(a)
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
	known := slices.ContainsFunc(s.seen.Answering, func(seen Answer) bool {
		return seen.Addr == a && seen.How == how && seen.VLAN == from.vlan
	})
	if !s.asked[a] || known || len(s.seen.Answering) >= maxAddrs+maxHows*len(s.own()) {
		return
	}
	s.seen.Answering = append(s.seen.Answering, Answer{Addr: a, MAC: from.mac.String(), VLAN: from.vlan, How: how, At: at})
}

func remember[T comparable](list *[]T, v T, limit int) {
	if len(*list) < limit && !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
}

// frame builds what goes to the guest. Serializing our own layers fails only
// if we built them wrongly; such a frame is not sent.
func frame(to link, kind layers.EthernetType, body ...gopacket.SerializableLayer) [][]byte {
	all := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: everyone, DstMAC: to.mac, EthernetType: kind}}
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
