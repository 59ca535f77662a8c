package lan

import (
	"net"
	"net/netip"
	"slices"
)

// strangers are addresses for documentation and for tests (RFC 5737, RFC 9637, RFC
// 2544), one of which is outside of the guest's networks.
var strangers = []netip.Addr{
	netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("198.51.100.77"), netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("198.19.68.77"),
	netip.MustParseAddr("3fff:68::77"), netip.MustParseAddr("2001:db8:68::77"),
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

// question asks for an address, again and again, since what answered once may
// be gone; once it has answered, it is pinged too, by a neighbour and by a
// stranger.
func (s *station) question(p netip.Prefix, vlan uint16) [][]byte {
	s.asked[p.Addr()] = true
	ask := s.solicit
	if p.Addr().Is4() {
		ask = s.arpRequest
	}
	frames := ask(p, vlan)
	answered := slices.IndexFunc(s.seen.Answering, func(a Answer) bool { return a.Addr == p.Addr() && a.VLAN == vlan })
	if answered < 0 {
		return frames
	}
	mac, err := net.ParseMAC(s.seen.Answering[answered].MAC)
	if err != nil {
		return frames // cannot be: it was made from one
	}
	asker := s.asker(p)
	to := link{mac: mac, vlan: vlan}.as(asker)
	frames = append(frames, s.ping(asker, p, to)...)
	if stranger := s.stranger(p); stranger.IsValid() && s.isGateway(asker) {
		frames = append(frames, s.ping(stranger, p, to)...)
	}
	return frames
}

// stranger is an address like p's that is in none of the guest's networks.
func (s *station) stranger(p netip.Prefix) netip.Addr {
	for _, a := range strangers {
		inside := slices.ContainsFunc(slices.Concat(s.own(), s.expect.Beside), func(own netip.Prefix) bool { return own.Contains(a) })
		if a.Is4() == p.Addr().Is4() && !inside {
			return a
		}
	}
	return netip.Addr{}
}

// isGateway tells whether the guest is to send through a neighbour.
func (s *station) isGateway(a netip.Addr) bool {
	return a == s.expect.Gateway || a == s.expect.Gateway6 || s.seen.Lease != nil && a == s.router
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
