package lan

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// pingID marks our echo requests: "h2" in ASCII.
const pingID = 0x6832

// arp answers for every address but the guest's own, and never a guest that
// asks whether an address is free (RFC 5227: the sender's address is zero).
func (s *station) arp(a *layers.ARP, from link, at time.Time) [][]byte {
	sender, target := addr(a.SourceProtAddress), addr(a.DstProtAddress)
	if !sender.Is4() || !target.Is4() || len(a.SourceHwAddress) != 6 {
		return nil
	}
	s.claim(sender)
	if a.Operation == layers.ARPReply {
		s.answered(sender, from, "arp", at)
		return nil
	}
	if sender.IsUnspecified() || sender == target {
		return nil
	}
	remember(&s.seen.Wanted, target, maxAddrs)
	if s.isGuests(target) {
		return nil
	}
	return arpFrame(from, layers.ARPReply, target, a.SourceHwAddress, sender)
}

func (s *station) arpRequest(p netip.Prefix, vlan uint16) [][]byte {
	return arpFrame(link{mac: broadcast, vlan: vlan}, layers.ARPRequest, s.asker(p), make(net.HardwareAddr, 6), p.Addr())
}

func arpFrame(to link, operation uint16, sender netip.Addr, mac net.HardwareAddr, target netip.Addr) [][]byte {
	return frame(to.as(sender), layers.EthernetTypeARP, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
		HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: macOf(sender), SourceProtAddress: sender.AsSlice(),
		DstHwAddress: mac, DstProtAddress: target.AsSlice(),
	})
}

func (s *station) ipv4(p gopacket.Packet, ip *layers.IPv4, from link, at time.Time) [][]byte {
	if ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0 {
		return nil
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return s.icmp(icmp, ip, from, at)
	}
	if dhcp, ok := p.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4); ok {
		return s.dhcp(dhcp, from, at)
	}
	return refuse(ip, from)
}

func (s *station) icmp(icmp *layers.ICMPv4, ip *layers.IPv4, from link, at time.Time) [][]byte {
	switch icmp.TypeCode.Type() {
	case layers.ICMPv4TypeEchoReply:
		if icmp.Id == pingID {
			s.ponged(addr(ip.SrcIP), addr(ip.DstIP), from, at)
		}
	case layers.ICMPv4TypeEchoRequest:
		if s.isGuests(addr(ip.DstIP)) || notOneHost(ip.DstIP) {
			return nil
		}
		reply := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: icmp.Id, Seq: icmp.Seq}
		return ipv4Frame(from, layers.IPProtocolICMPv4, ip.DstIP, ip.SrcIP, reply, gopacket.Payload(icmp.Payload))
	}
	return nil
}

// ponged notes the answer of an address to a neighbour or a stranger.
func (s *station) ponged(a, asker netip.Addr, from link, at time.Time) {
	i := slices.IndexFunc(s.own(), func(p netip.Prefix) bool { return p.Addr() == a })
	if i >= 0 && asker == s.stranger(s.own()[i]) {
		s.routed(a, from, at)
		return
	}
	s.answered(a, from, "ping", at)
}

func (s *station) ping(asker netip.Addr, p netip.Prefix, to link) [][]byte {
	if !p.Addr().Is4() {
		return ping6(asker, p, to)
	}
	request := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: pingID, Seq: 1}
	return ipv4Frame(to, layers.IPProtocolICMPv4, asker.AsSlice(), p.Addr().AsSlice(), request, gopacket.Payload("hyper2kvm"))
}

// refuse tells the guest at once that nobody listens, for TCP and UDP alike:
// a service that looks for its database or its time server does not hold the
// boot up for minutes.
func refuse(ip *layers.IPv4, from link) [][]byte {
	if notOneHost(ip.DstIP) || addr(ip.SrcIP).IsUnspecified() {
		return nil
	}
	if ip.Protocol != layers.IPProtocolTCP && ip.Protocol != layers.IPProtocolUDP {
		return nil
	}
	// RFC 792: the header and the first 8 bytes behind it.
	quoted := append(append([]byte{}, ip.Contents...), ip.Payload[:min(8, len(ip.Payload))]...)
	unreachable := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)}
	return ipv4Frame(from, layers.IPProtocolICMPv4, ip.DstIP, ip.SrcIP, unreachable, gopacket.Payload(quoted))
}

func notOneHost(ip net.IP) bool {
	return ip.Equal(net.IPv4bcast) || ip.IsMulticast() || ip.IsUnspecified()
}

// dhcp gives the guest the one lease that there is (RFC 2131). A guest that
// asks for another address, an old lease of its former network for instance,
// is told to start over.
func (s *station) dhcp(d *layers.DHCPv4, from link, at time.Time) [][]byte {
	if d.Operation != layers.DHCPOpRequest || len(d.ClientHWAddr) != 6 {
		return nil
	}
	wanted := d.ClientIP
	if b := option(d, layers.DHCPOptRequestIP); len(b) == 4 {
		wanted = b
	}
	switch kind := option(d, layers.DHCPOptMessageType); {
	case len(kind) != 1:
		return nil
	case layers.DHCPMsgType(kind[0]) == layers.DHCPMsgTypeDiscover:
		return s.dhcpReply(d, from, layers.DHCPMsgTypeOffer)
	case layers.DHCPMsgType(kind[0]) != layers.DHCPMsgTypeRequest:
		return nil
	case addr(wanted) != s.lease.Addr():
		return s.dhcpReply(d, from, layers.DHCPMsgTypeNak)
	}
	s.seen.Lease = &Lease{Addr: s.lease.Addr(), Router: s.router, Hostname: printable(option(d, layers.DHCPOptHostname)), At: at}
	return s.dhcpReply(d, from, layers.DHCPMsgTypeAck)
}

func (s *station) dhcpReply(d *layers.DHCPv4, from link, kind layers.DHCPMsgType) [][]byte {
	reply := &layers.DHCPv4{
		Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		Xid: d.Xid, Flags: d.Flags, ClientHWAddr: d.ClientHWAddr,
		ClientIP: net.IPv4zero, YourClientIP: net.IPv4zero, NextServerIP: net.IPv4zero, RelayAgentIP: net.IPv4zero,
		Options: layers.DHCPOptions{
			layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)}),
			layers.NewDHCPOption(layers.DHCPOptServerID, s.router.AsSlice()),
		},
	}
	to := net.IPv4bcast
	if kind != layers.DHCPMsgTypeNak {
		reply.YourClientIP = s.lease.Addr().AsSlice()
		reply.Options = append(reply.Options,
			layers.NewDHCPOption(layers.DHCPOptLeaseTime, []byte{0, 0, 0x0e, 0x10}), // an hour
			layers.NewDHCPOption(layers.DHCPOptSubnetMask, net.CIDRMask(s.lease.Bits(), 32)),
			layers.NewDHCPOption(layers.DHCPOptRouter, s.router.AsSlice()))
		if d.Flags&0x8000 == 0 { // the guest can take a unicast before it has its address
			to = reply.YourClientIP
		}
	}
	udp := &layers.UDP{SrcPort: 67, DstPort: 68}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: s.router.AsSlice(), DstIP: to}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil // cannot be: an IPv4 header always does
	}
	return frame(link{mac: d.ClientHWAddr, vlan: from.vlan}.as(s.router), layers.EthernetTypeIPv4, ip, udp, reply)
}

func option(d *layers.DHCPv4, which layers.DHCPOpt) []byte {
	for _, o := range d.Options {
		if o.Type == which {
			return o.Data
		}
	}
	return nil
}

// printable is what a guest says of itself, safe to show.
func printable(b []byte) string {
	s := make([]byte, 0, 64)
	for _, c := range b[:min(len(b), 64)] {
		if c > ' ' && c < 0x7f {
			s = append(s, c)
		}
	}
	return string(s)
}

func ipv4Frame(to link, protocol layers.IPProtocol, src, dst net.IP, body ...gopacket.SerializableLayer) [][]byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: src, DstIP: dst}
	return frame(to, layers.EthernetTypeIPv4, append([]gopacket.SerializableLayer{ip}, body...)...)
}
