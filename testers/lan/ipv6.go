package lan

import (
	"net"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// routerLocal is the link-local address from which IPv6 neighbours are asked.
var routerLocal = netip.MustParseAddr("fe80::68:32ff:fe6b:1")

func (s *station) ipv6(p gopacket.Packet, ip *layers.IPv6, from link, at time.Time) [][]byte {
	src := addr(ip.SrcIP)
	if a, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
		target := addr(a.TargetAddress)
		s.claim(target)
		s.answered(target, from, "ndp", at)
		return nil
	}
	if n, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
		return s.solicited(addr(n.TargetAddress), src, from)
	}
	icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if !ok {
		return nil
	}
	echo, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo)
	if !ok {
		return nil
	}
	if icmp.TypeCode.Type() == layers.ICMPv6TypeEchoReply && echo.Identifier == pingID {
		s.ponged(src, addr(ip.DstIP), from, at)
	}
	if icmp.TypeCode.Type() != layers.ICMPv6TypeEchoRequest || ip.DstIP.IsMulticast() || s.isGuests(addr(ip.DstIP)) {
		return nil
	}
	return ipv6Frame(from, ip.DstIP, ip.SrcIP, layers.ICMPv6TypeEchoReply,
		&layers.ICMPv6Echo{Identifier: echo.Identifier, SeqNumber: echo.SeqNumber}, gopacket.Payload(echo.Payload))
}

// solicited answers for every neighbour but the guest itself, and never a guest
// that asks whether an address is free (RFC 4862: its own is unspecified).
func (s *station) solicited(target, src netip.Addr, from link) [][]byte {
	if !target.Is6() || !src.IsValid() || src.IsUnspecified() {
		return nil
	}
	s.claim(src)
	remember(&s.seen.Wanted, target, maxAddrs)
	if s.isGuests(target) {
		return nil
	}
	// RFC 4861: router, solicited, override.
	return ipv6Frame(from.as(target), target.AsSlice(), src.AsSlice(), layers.ICMPv6TypeNeighborAdvertisement,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0xe0, TargetAddress: target.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: macOf(target)}}})
}

// solicit asks who has an address, to its solicited-node group (RFC 4291).
func (s *station) solicit(p netip.Prefix, vlan uint16) [][]byte {
	a := p.Addr().As16()
	group := net.IP{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a[13], a[14], a[15]}
	to := link{mac: net.HardwareAddr{0x33, 0x33, 0xff, a[13], a[14], a[15]}, vlan: vlan}.as(routerLocal)
	return ipv6Frame(to, routerLocal.AsSlice(), group, layers.ICMPv6TypeNeighborSolicitation,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: a[:],
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: macOf(routerLocal)}}})
}

func ping6(asker netip.Addr, p netip.Prefix, to link) [][]byte {
	return ipv6Frame(to, asker.AsSlice(), p.Addr().AsSlice(), layers.ICMPv6TypeEchoRequest,
		&layers.ICMPv6Echo{Identifier: pingID, SeqNumber: 1}, gopacket.Payload("hyper2kvm"))
}

func ipv6Frame(to link, src, dst net.IP, kind uint8, body ...gopacket.SerializableLayer) [][]byte {
	// RFC 4861 demands a hop limit of 255 for neighbour discovery.
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: src, DstIP: dst}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil // cannot be: an IPv6 header always does
	}
	return frame(to, layers.EthernetTypeIPv6, append([]gopacket.SerializableLayer{ip, icmp}, body...)...)
}
