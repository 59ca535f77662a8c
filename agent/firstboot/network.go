package firstboot

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// written begins the files that are written here.
const written = "# Written by hyper2kvm first-boot at each boot: what is changed here is lost.\n"

// networkFile is the network as systemd-networkd reads it: of one card, or of all that
// are Ethernet's and real. Other cards than the one that is meant stay as they are.
//
// Source: systemd.network(5); systemd's own network/89-ethernet.network.example.
func networkFile(s *Settings, c *card) string {
	var b strings.Builder
	b.WriteString(written + "[Match]\n")
	switch {
	case c == nil:
		b.WriteString("Type=ether\nKind=!*\n")
	case c.fixed:
		fmt.Fprintf(&b, "PermanentMACAddress=%s\n", c.mac)
	default:
		fmt.Fprintf(&b, "Name=%s\n", c.name)
	}
	b.WriteString("\n[Network]\n")
	addressing(&b, s)
	servers(&b, s)
	return b.String()
}

func addressing(b *strings.Builder, s *Settings) {
	if len(s.Addresses) == 0 {
		b.WriteString("DHCP=yes\n")
		return
	}
	b.WriteString("DHCP=no\n")
	for _, a := range s.Addresses {
		fmt.Fprintf(b, "Address=%s\n", a)
	}
	for _, g := range s.Gateways {
		fmt.Fprintf(b, "Gateway=%s\n", g)
	}
	if slices.ContainsFunc(s.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		b.WriteString("IPv6AcceptRA=no\n")
	}
}

// servers has those of the network taken but where others are said. A lease goes with
// the card, which reservations know: every appliance of one image begins without a
// machine ID of its own.
func servers(b *strings.Builder, s *Settings) {
	section := func(name string, lines ...string) {
		if len(lines) > 0 {
			fmt.Fprintf(b, "\n[%s]\n%s\n", name, strings.Join(lines, "\n"))
		}
	}
	var own, router []string
	if len(s.DNS) > 0 {
		own, router = append(own, "UseDNS=no"), append(router, "UseDNS=no")
	}
	if len(s.NTP) > 0 {
		own = append(own, "UseNTP=no")
	}
	section("DHCPv4", append([]string{"ClientIdentifier=mac"}, own...)...)
	section("DHCPv6", own...)
	section("IPv6AcceptRA", router...)
}

// resolvedFile is systemd-resolved's part. Source: resolved.conf(5).
func resolvedFile(s *Settings) string {
	text := written + "[Resolve]\n"
	if len(s.DNS) > 0 {
		text += "DNS=" + joinedBy(s.DNS) + "\n"
	}
	if len(s.Search) > 0 {
		text += "Domains=" + strings.Join(s.Search, " ") + "\n"
	}
	return text
}

// timesyncFile is systemd-timesyncd's part. Source: timesyncd.conf(5).
func timesyncFile(s *Settings) string {
	return written + "[Time]\nNTP=" + strings.Join(s.NTP, " ") + "\n"
}

func joinedBy(list []netip.Addr) string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}
