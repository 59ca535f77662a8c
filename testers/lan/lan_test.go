package lan

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	guestMAC = net.HardwareAddr{0x00, 0x50, 0x56, 0x01, 0x02, 0x03}
	guestIP  = netip.MustParseAddr("192.0.2.10")
	gateway  = netip.MustParseAddr("192.0.2.1")
	now      = time.Unix(1700000000, 0)
)

func static(prefixes ...string) Expect {
	e := Expect{MAC: guestMAC.String(), Gateway: gateway}
	for _, p := range prefixes {
		e.Static = append(e.Static, netip.MustParsePrefix(p))
	}
	return e
}

func newTestStation(t *testing.T, e Expect) *station {
	t.Helper()
	s, err := newStation(e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// packet is the one frame that frames has to be.
func packet(t *testing.T, frames [][]byte) gopacket.Packet {
	t.Helper()
	if len(frames) != 1 {
		t.Fatalf("%d frames, want 1", len(frames))
	}
	p := gopacket.NewPacket(frames[0], layers.LayerTypeEthernet, gopacket.Default)
	if p.ErrorLayer() != nil {
		t.Fatalf("frame cannot be read: %v", p.ErrorLayer().Error())
	}
	return p
}

// said builds a frame of the guest's.
func said(t *testing.T, body ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, body...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: guestMAC, DstMAC: macOf(gateway), EthernetType: kind}
}

func arpSaid(t *testing.T, operation uint16, sender, target string, tags ...uint16) []byte {
	body := []gopacket.SerializableLayer{ethernet(layers.EthernetTypeARP)}
	for _, tag := range tags {
		body[0] = ethernet(layers.EthernetTypeDot1Q)
		body = append(body, &layers.Dot1Q{VLANIdentifier: tag, Type: layers.EthernetTypeARP})
	}
	return said(t, append(body, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: operation, SourceHwAddress: guestMAC, SourceProtAddress: netip.MustParseAddr(sender).AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: netip.MustParseAddr(target).AsSlice(),
	})...)
}

func TestEveryNeighbourAnswersButTheGuestItself(t *testing.T) {
	for _, c := range []struct {
		why, sender, target string
		answered            bool
	}{
		{"the gateway", "192.0.2.10", "192.0.2.1", true},
		{"a gateway that is not on the link", "192.0.2.10", "10.9.8.7", true},
		{"an address of its own", "192.0.2.10", "192.0.2.11", false},
		{"whether an address is free", "0.0.0.0", "192.0.2.77", false},
		{"nothing: it announces itself", "192.0.2.77", "192.0.2.77", false},
	} {
		s := newTestStation(t, static("192.0.2.10/24", "192.0.2.11/24"))
		got := s.receive(arpSaid(t, layers.ARPRequest, c.sender, c.target), now)
		if (len(got) == 1) != c.answered {
			t.Errorf("a guest that asks for %s gets %d answers", c.why, len(got))
		}
		if !c.answered {
			continue
		}
		arp := packet(t, got).Layer(layers.LayerTypeARP).(*layers.ARP)
		if addr(arp.SourceProtAddress).String() != c.target || !slices.Equal(arp.SourceHwAddress, macOf(addr(arp.SourceProtAddress))) {
			t.Errorf("answer for %s is from %v at %v", c.target, addr(arp.SourceProtAddress), net.HardwareAddr(arp.SourceHwAddress))
		}
	}
}

func TestAStaticAddressIsProvedByAnsweringAndNotByClaiming(t *testing.T) {
	e := static("192.0.2.10/24")
	s := newTestStation(t, e)
	s.receive(arpSaid(t, layers.ARPRequest, "192.0.2.10", "192.0.2.1"), now)
	if w := s.witness(); !slices.Contains(w.Claimed, guestIP) || len(w.Missing(e)) != 1 {
		t.Errorf("after a claim: %+v, missing %v, want a claim that proves nothing", w, w.Missing(e))
	}
	asked := packet(t, s.questions()).Layer(layers.LayerTypeARP).(*layers.ARP)
	if addr(asked.DstProtAddress) != guestIP || addr(asked.SourceProtAddress) != gateway {
		t.Errorf("asked %v for %v, want the gateway to ask for %v", addr(asked.SourceProtAddress), addr(asked.DstProtAddress), guestIP)
	}
	s.receive(arpSaid(t, layers.ARPReply, "192.0.2.10", "192.0.2.1"), now)
	if w := s.witness(); len(w.Missing(e)) != 0 || w.Answering[0].How != "arp" || w.Answering[0].MAC != guestMAC.String() {
		t.Errorf("after an answer: %+v, missing %v", w, w.Missing(e))
	}
	if arp, pings := asked4(t, s); arp != 1 || !slices.Equal(pings, []netip.Addr{gateway, strangers[0]}) {
		t.Errorf("an address that answered ARP is asked again %d times, and pinged by %v, want once, and by the gateway and a stranger", arp, pings)
	}
	s.receive(said(t, ethernet(layers.EthernetTypeIPv4),
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: guestIP.AsSlice(), DstIP: gateway.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: pingID, Seq: 1}), now)
	if w := s.witness(); len(w.Answering) != 2 || w.Answering[1].How != "ping" {
		t.Errorf("after a ping: %+v", w.Answering)
	}
}

// asked4 is how often the guest is asked by ARP, and who pings it.
func asked4(t *testing.T, s *station) (arp int, pings []netip.Addr) {
	t.Helper()
	for _, f := range s.questions() {
		p := packet(t, [][]byte{f})
		if p.Layer(layers.LayerTypeARP) != nil {
			arp++
		}
		if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoRequest {
			pings = append(pings, addr(p.Layer(layers.LayerTypeIPv4).(*layers.IPv4).SrcIP))
		}
	}
	return arp, pings
}

// ponged is the guest's answer to a ping, sent to one of its neighbours.
func ponged(t *testing.T, to, through netip.Addr) []byte {
	t.Helper()
	return said(t, &layers.Ethernet{SrcMAC: guestMAC, DstMAC: macOf(through), EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: guestIP.AsSlice(), DstIP: to.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: pingID, Seq: 1})
}

func TestAnAnswerToAStrangerTellsTheGateway(t *testing.T) {
	wrong := netip.MustParseAddr("192.0.2.254")
	s := newTestStation(t, static("192.0.2.10/24"))
	s.receive(ponged(t, strangers[0], gateway), now)
	if r := s.witness().Routes; len(r) != 0 {
		t.Errorf("routes %+v of an answer that was not asked for", r)
	}
	s.questions()
	s.receive(arpSaid(t, layers.ARPRequest, "192.0.2.10", wrong.String()), now)
	for i, c := range []struct {
		through, want netip.Addr
	}{{gateway, gateway}, {wrong, wrong}, {netip.MustParseAddr("192.0.2.99"), netip.Addr{}}, {gateway, gateway}} {
		s.receive(ponged(t, strangers[0], c.through), now.Add(time.Duration(i)*time.Second))
		if r, ok := s.witness().Route(guestIP); !ok || r.Via != c.want {
			t.Errorf("an answer to a stranger through %v is %+v, want through %v", c.through, r, c.want)
		}
	}
	if w := s.witness(); len(w.Routes) != 3 || len(w.Answering) != 0 {
		t.Errorf("routes %+v, answers %+v, want 3 and none", w.Routes, w.Answering)
	}
}

func TestAStrangerIsInNoneOfTheGuestsNetworks(t *testing.T) {
	for _, c := range []struct{ of, beside, want string }{
		{"192.0.2.10/24", "", "203.0.113.77"}, {"203.0.113.10/24", "", "198.51.100.77"}, {"10.0.0.1/0", "", "invalid IP"}, {"2001:db8::10/64", "", "3fff:68::77"},
		{"203.0.113.10/24", "198.51.100.20/24", "192.0.2.77"},
	} {
		e := static(c.of)
		if c.beside != "" {
			e.Beside = []netip.Prefix{netip.MustParsePrefix(c.beside)}
		}
		s := newTestStation(t, e)
		if got := s.stranger(s.expect.Static[0]).String(); got != c.want {
			t.Errorf("a stranger to %s is %s, want %s", c.of, got, c.want)
		}
	}
}

func TestWhatAnsweredOnceIsAskedAgain(t *testing.T) {
	e := static("192.0.2.10/24")
	s := newTestStation(t, e)
	for i := range 3 {
		s.questions()
		s.receive(arpSaid(t, layers.ARPReply, "192.0.2.10", "192.0.2.1"), now.Add(time.Duration(i)*time.Second))
	}
	w := s.witness()
	if len(w.Answering) != 1 || !w.Answering[0].At.Equal(now) || !w.Answering[0].Last.Equal(now.Add(2*time.Second)) {
		t.Errorf("answers %+v, want one, from the first to the last time", w.Answering)
	}
	if silent := w.Silent(e, now.Add(2*time.Second)); len(silent) != 0 {
		t.Errorf("silent are %v, want none", silent)
	}
	if silent := w.Silent(e, now.Add(3*time.Second)); len(silent) != 1 {
		t.Errorf("silent are %v, want the address", silent)
	}
}

func TestEveryCardThatAnswersForAnAddressIsWitnessed(t *testing.T) {
	s := newTestStation(t, static("192.0.2.10/24"))
	s.questions()
	own := arpSaid(t, layers.ARPReply, "192.0.2.10", "192.0.2.1")
	other := slices.Clone(own)
	other[11] = 0x66 // of its source
	s.receive(own, now)
	s.receive(other, now)
	if a := s.witness().Answering; len(a) != 2 || a[0].MAC == a[1].MAC {
		t.Errorf("answers %+v, want one of each card", a)
	}
}

func TestAnAnswerThatWasNotAskedForProvesNothing(t *testing.T) {
	s := newTestStation(t, static("192.0.2.10/24"))
	s.receive(arpSaid(t, layers.ARPReply, "192.0.2.99", "192.0.2.1"), now)
	if w := s.witness(); len(w.Answering) != 0 {
		t.Errorf("answering = %+v, want none", w.Answering)
	}
}

func TestAGuestIsNotAskedByItself(t *testing.T) {
	e := static("192.0.2.1/24", "192.0.2.2/24", "192.0.2.10/24")
	for _, e.Gateway = range []netip.Addr{{}, netip.MustParseAddr("192.0.2.2")} { // none; the guest itself
		s := newTestStation(t, e)
		for _, p := range e.Static {
			if got, want := s.asker(p), netip.MustParseAddr("192.0.2.3"); got != want {
				t.Errorf("%v is asked for by %v, want %v", p, got, want)
			}
		}
	}
}

func TestEachFamilyIsAskedByItsGateway(t *testing.T) {
	e := static("192.0.2.10/24", "2001:db8::10/64", "198.51.100.10/24")
	e.Gateway6 = netip.MustParseAddr("fe80::1")
	s := newTestStation(t, e)
	for i, want := range []netip.Addr{gateway, e.Gateway6, gateway} {
		if got := s.asker(e.Static[i]); got != want {
			t.Errorf("%v is asked for by %v, want %v", e.Static[i], got, want)
		}
	}
	e.Gateway, e.Gateway6 = netip.Addr{}, netip.Addr{} // a card that is no way out
	s = newTestStation(t, e)
	for i, want := range []string{"192.0.2.1", "2001:db8::1", "198.51.100.1"} {
		if got := s.asker(e.Static[i]); got.String() != want {
			t.Errorf("without a gateway %v is asked for by %v, want %v", e.Static[i], got, want)
		}
	}
}

func TestAsManyAddressesAsAreExpectedAreWitnessed(t *testing.T) {
	var prefixes []string
	for i := range 200 {
		prefixes = append(prefixes, fmt.Sprintf("192.0.2.%d/24", i+10))
	}
	e := static(prefixes...)
	s := newTestStation(t, e)
	s.questions()
	for _, p := range e.Static {
		s.receive(arpSaid(t, layers.ARPReply, p.Addr().String(), "192.0.2.1"), now)
	}
	if missing := s.witness().Missing(e); len(missing) != 0 {
		t.Errorf("missing = %v", missing)
	}
}

func TestAGuestOnAVLANIsAskedThere(t *testing.T) {
	e := static("192.0.2.10/24")
	s := newTestStation(t, e)
	got := packet(t, s.receive(arpSaid(t, layers.ARPRequest, "192.0.2.10", "192.0.2.1", 42), now))
	if tag, ok := got.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); !ok || tag.VLANIdentifier != 42 {
		t.Errorf("answer %v is not on VLAN 42", got)
	}
	if n := len(s.questions()); n != 2 {
		t.Errorf("%d questions, want one untagged and one on VLAN 42", n)
	}
	s.receive(arpSaid(t, layers.ARPReply, "192.0.2.10", "192.0.2.1", 42), now)
	if w := s.witness(); len(w.Missing(e)) != 0 || w.Answering[0].VLAN != 42 {
		t.Errorf("witness = %+v, want an answer on VLAN 42", w)
	}
}

func TestARestartForgetsWhatWasProved(t *testing.T) {
	e := static("192.0.2.10/24")
	s := newTestStation(t, e)
	s.questions()
	s.receive(arpSaid(t, layers.ARPReply, "192.0.2.10", "192.0.2.1"), now)
	before := s.witness()
	s.restart()
	s.receive(arpSaid(t, layers.ARPReply, "192.0.2.10", "192.0.2.1"), now) // sent before, read after
	if len(before.Missing(e)) != 0 || len(s.witness().Missing(e)) != 1 {
		t.Errorf("missing %v before and %v after a restart", before.Missing(e), s.witness().Missing(e))
	}
}

func dhcpSaid(t *testing.T, kind layers.DHCPMsgType, wanted net.IP) []byte {
	d := &layers.DHCPv4{
		Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: 7, ClientHWAddr: guestMAC,
		ClientIP: net.IPv4zero, YourClientIP: net.IPv4zero, NextServerIP: net.IPv4zero, RelayAgentIP: net.IPv4zero,
		Options: layers.DHCPOptions{
			layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)}),
			layers.NewDHCPOption(layers.DHCPOptHostname, []byte("web\x1b[2J01")),
		},
	}
	if wanted != nil {
		d.Options = append(d.Options, layers.NewDHCPOption(layers.DHCPOptRequestIP, wanted.To4()))
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: 68, DstPort: 67}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return said(t, ethernet(layers.EthernetTypeIPv4), ip, udp, d)
}

func TestALeaseIsOfferedTakenAndWitnessed(t *testing.T) {
	e := Expect{MAC: guestMAC.String(), DHCP: true, Network: netip.MustParsePrefix("198.51.100.0/24")}
	s := newTestStation(t, e)
	for _, c := range []struct {
		asked  layers.DHCPMsgType
		wanted net.IP
		want   layers.DHCPMsgType
	}{
		{layers.DHCPMsgTypeDiscover, nil, layers.DHCPMsgTypeOffer},
		{layers.DHCPMsgTypeRequest, net.IPv4(10, 0, 0, 9), layers.DHCPMsgTypeNak},
		{layers.DHCPMsgTypeRequest, net.IPv4(198, 51, 100, 50), layers.DHCPMsgTypeAck},
	} {
		d := packet(t, s.receive(dhcpSaid(t, c.asked, c.wanted), now)).Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
		if got := layers.DHCPMsgType(option(d, layers.DHCPOptMessageType)[0]); got != c.want || d.Xid != 7 {
			t.Errorf("%v of %v is answered with %v, want %v", c.asked, c.wanted, got, c.want)
		}
	}
	w := s.witness()
	if w.Lease == nil || w.Lease.Addr.String() != "198.51.100.50" || w.Lease.Hostname != "web[2J01" {
		t.Fatalf("lease = %+v", w.Lease)
	}
	if len(w.Missing(e)) != 1 {
		t.Errorf("missing = %v, want the answer for the leased address", w.Missing(e))
	}
	s.questions()
	s.receive(arpSaid(t, layers.ARPReply, "198.51.100.50", "198.51.100.1"), now)
	if m := s.witness().Missing(e); len(m) != 0 {
		t.Errorf("missing = %v", m)
	}
}

func TestAServiceThatLooksForItsDatabaseIsRefusedAtOnce(t *testing.T) {
	s := newTestStation(t, static("192.0.2.10/24"))
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: guestIP.AsSlice(), DstIP: net.IPv4(10, 0, 0, 5).To4()}
	tcp := &layers.TCP{SrcPort: 4000, DstPort: 5432, SYN: true}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	got := packet(t, s.receive(said(t, ethernet(layers.EthernetTypeIPv4), ip, tcp), now))
	icmp, ok := got.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok || icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 3) || len(icmp.Payload) != 28 {
		t.Errorf("a SYN is answered with %v, want port unreachable with 28 bytes quoted", got)
	}
}

func TestAPingIsAnsweredWithItsPayload(t *testing.T) {
	s := newTestStation(t, static("192.0.2.10/24"))
	got := packet(t, s.receive(said(t, ethernet(layers.EthernetTypeIPv4),
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: guestIP.AsSlice(), DstIP: gateway.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 5, Seq: 6}, gopacket.Payload("payload")), now))
	icmp := got.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if icmp.TypeCode.Type() != layers.ICMPv4TypeEchoReply || icmp.Id != 5 || icmp.Seq != 6 || string(icmp.Payload) != "payload" {
		t.Errorf("reply = %v", got)
	}
}

func TestIPv6AddressesAreProvedToo(t *testing.T) {
	e := static("2001:db8::10/64")
	s := newTestStation(t, e)
	asked := packet(t, s.questions())
	ns := asked.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
	if addr(ns.TargetAddress).String() != "2001:db8::10" {
		t.Errorf("asked for %v", ns.TargetAddress)
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6,
		SrcIP: net.ParseIP("2001:db8::10"), DstIP: routerLocal.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	s.receive(said(t, ethernet(layers.EthernetTypeIPv6), ip, icmp,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: net.ParseIP("2001:db8::10")}), now)
	if w := s.witness(); len(w.Missing(e)) != 0 || w.Answering[0].How != "ndp" {
		t.Errorf("witness = %+v, missing %v", w, w.Missing(e))
	}
	again := s.questions()
	if len(again) != 2 {
		t.Fatalf("an address that answered is asked %d times, want a solicitation and a ping", len(again))
	}
	if _, ok := packet(t, again[1:]).Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); !ok {
		t.Error("an address that answered is not pinged")
	}
}

func TestHostileFramesAreCountedAndHarmless(t *testing.T) {
	s := newTestStation(t, static("192.0.2.10/24"))
	good := [][]byte{
		arpSaid(t, layers.ARPRequest, "192.0.2.10", "192.0.2.1"),
		dhcpSaid(t, layers.DHCPMsgTypeDiscover, nil),
	}
	sent := 0
	for _, g := range good { // every truncation
		for n := range g {
			s.receive(slices.Clone(g[:n]), now)
			sent++
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 { // and bytes turned over
		f := slices.Clone(good[random.IntN(len(good))])
		for range 1 + random.IntN(8) {
			f[random.IntN(len(f))] = byte(random.Uint32())
		}
		s.receive(f, now)
		sent++
	}
	w := s.witness()
	if w.Frames != int64(sent) || w.Malformed == 0 {
		t.Errorf("%d frames and %d malformed of %d sent", w.Frames, w.Malformed, sent)
	}
	if len(w.Claimed) > maxAddrs || len(w.Wanted) > maxAddrs || len(w.Sources) > maxSources || len(w.VLANs) > maxVLANs {
		t.Errorf("remembered %d claims, %d wanted, %d sources, %d VLANs", len(w.Claimed), len(w.Wanted), len(w.Sources), len(w.VLANs))
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x02\x68\x32\x6b\x00\x01\x00\x50\x56\x01\x02\x03\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		s := newTestStation(t, static("192.0.2.10/24", "2001:db8::10/64"))
		s.receive(frame, now)
		s.questions()
	})
}

// plug connects a fake guest to a segment.
func plug(t *testing.T, e Expect) (*Segment, net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	s, err := Listen(path, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return s, conn
}

func TestAGuestOnTheWireIsAskedAndWitnessed(t *testing.T) {
	e := static("192.0.2.10/24")
	s, conn := plug(t, e)
	in := bufio.NewReader(conn)
	buf := make([]byte, maxFrame)
	for len(s.Witness().Missing(e)) > 0 {
		f, err := readFrame(in, buf)
		if err != nil {
			t.Fatal(err)
		}
		arp, ok := packet(t, [][]byte{f}).Layer(layers.LayerTypeARP).(*layers.ARP)
		if ok && arp.Operation == layers.ARPRequest {
			reply := arpSaid(t, layers.ARPReply, addr(arp.DstProtAddress).String(), addr(arp.SourceProtAddress).String())
			if _, err := conn.Write(appendFrame(nil, reply)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAFloodThatReadsNothingEndsWithTheSegment(t *testing.T) {
	s, conn := plug(t, static("192.0.2.10/24"))
	flood := appendFrame(nil, arpSaid(t, layers.ARPRequest, "192.0.2.10", "192.0.2.1"))
	const n = 20_000 // their answers fill the socket many times over
	for range n {
		if _, err := conn.Write(flood); err != nil {
			t.Fatal(err)
		}
	}
	for s.Witness().Frames < n {
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFrameOfImpossibleLengthUnplugsTheGuest(t *testing.T) {
	_, conn := plug(t, static("192.0.2.10/24"))
	if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, maxFrame+1)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil {
			if !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
				t.Errorf("read = %v, want the end of the connection", err)
			}
			return
		}
	}
}
