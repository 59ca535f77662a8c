package firstboot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/layers"
)

// most of a list's values.
const mostValues = 16

var (
	label      = `[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?`
	domainName = regexp.MustCompile(`^` + label + `(?:\.` + label + `)*$`)
	cardName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)
)

// mostHostname is what Linux takes. Source: gethostname(2), HOST_NAME_MAX.
const mostHostname = 64

func takeHostname(s *Settings, text string) error {
	_, err := netip.ParseAddr(text)
	if len(text) > mostHostname || !domainName.MatchString(text) || err == nil {
		return fmt.Errorf("%s is no host name: write letters, digits, hyphens and dots, %d at most, such as mover1.example.org", quoted(text), mostHostname)
	}
	s.Hostname = text
	return nil
}

// words are the values of a list.
func words(text string) ([]string, error) {
	list := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
	if len(list) > mostValues {
		return nil, fmt.Errorf("has %d values: write %d at most", len(list), mostValues)
	}
	return list, nil
}

// each takes the values of a list, all or none.
func each[T any](into *[]T, text string, one func(string) (T, error)) error {
	list, err := words(text)
	if err != nil {
		return err
	}
	var taken []T
	for _, word := range list {
		v, err := one(word)
		if err != nil {
			return err
		}
		taken = append(taken, v)
	}
	*into = taken
	return nil
}

// byDHCP is written for addresses that the network gives.
const byDHCP = "dhcp"

func takeAddress(s *Settings, text string) error {
	if strings.EqualFold(strings.TrimSpace(text), byDHCP) {
		s.Addresses = nil
		return nil
	}
	return each(&s.Addresses, text, parseAddress)
}

// parseAddress is an address that a host can have, with its prefix length.
func parseAddress(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	a := p.Addr()
	switch {
	case err != nil && !strings.Contains(text, "/") && isAddress(text):
		return p, fmt.Errorf("%s lacks its prefix length: write %[1]s/24, or as long as the network's is", text)
	case err != nil:
		return p, fmt.Errorf("%s is no address: write one with its prefix length, such as 192.0.2.10/24 or 2001:db8::10/64, or dhcp", quoted(text))
	case !ofAHost(a) || a.Is4In6():
		return p, fmt.Errorf("%s is no address that a host can have: write one such as 192.0.2.10/24", text)
	case p.Bits() == 0:
		return p, fmt.Errorf("%s says that every address is on this network: write the network's prefix length, such as %s/24", text, a)
	case p.Bits() < a.BitLen()-1 && a.Is4() && (a == p.Masked().Addr() || a == last(p)):
		return p, fmt.Errorf("%s is the network's first or last address, which no host can have: write another one", text)
	}
	return p, nil
}

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func ofAHost(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// last is an IPv4 network's last address, which is its broadcast address.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// parseHost is the address of another host.
func parseHost(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !ofAHost(a) || a.Zone() != "" || a.Is4In6() {
		return a, fmt.Errorf("%s is no host's address: write one such as 192.0.2.1 or 2001:db8::1", quoted(text))
	}
	return a, nil
}

func takeGateway(s *Settings, text string) error { return each(&s.Gateways, text, parseHost) }

func takeDNS(s *Settings, text string) error { return each(&s.DNS, text, parseHost) }

func takeSearch(s *Settings, text string) error {
	return each(&s.Search, text, func(word string) (string, error) {
		word = strings.TrimSuffix(word, ".")
		if len(word) > mostName || !domainName.MatchString(word) {
			return "", fmt.Errorf("%s is no domain: write one such as example.org", quoted(word))
		}
		return word, nil
	})
}

func takeNTP(s *Settings, text string) error {
	return each(&s.NTP, text, func(word string) (string, error) {
		if _, err := parseHost(word); err != nil && (len(word) > mostName || !domainName.MatchString(word) || isAddress(word)) {
			return "", fmt.Errorf("%s is no time server: write its name or its address, such as ntp.example.org", quoted(word))
		}
		return word, nil
	})
}

func takeNIC(s *Settings, text string) error {
	if mac, err := net.ParseMAC(text); err == nil && len(mac) == 6 {
		s.NIC = mac.String()
		return nil
	}
	if !cardName.MatchString(text) {
		return fmt.Errorf("%s is no network card: write its MAC address, such as 00:50:56:01:02:03, or its name, such as ens192", quoted(text))
	}
	s.NIC = text
	return nil
}

func takeJoinToken(s *Settings, text string) error {
	hosts, err := fleet.Hosts([]byte(text))
	if err != nil {
		return err
	}
	s.JoinToken = []byte(text)
	if s.Hub == "" {
		s.Hub = net.JoinHostPort(hosts[0], hubPort)
	}
	return nil
}

// hubPort is what a hub listens on if its settings say nothing else.
const hubPort = "4222"

func takeHub(s *Settings, text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), hubPort
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || !isAddress(host) && (len(host) > mostName || !domainName.MatchString(host)) {
		return fmt.Errorf("%s is no hub: write its host and port, such as hub.example.org:4222", quoted(text))
	}
	s.Hub = net.JoinHostPort(host, port)
	return nil
}

func takeSSHKey(s *Settings, text string) error {
	var list []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil || strings.ContainsFunc(line, isControl) {
			return fmt.Errorf("line %d is no public key: write what ssh-keygen has put into a file that ends in .pub, such as ssh-ed25519 AAAA…", len(list)+1)
		}
		list = append(list, line)
	}
	if len(list) == 0 || len(list) > mostValues {
		return fmt.Errorf("has %d keys: write 1 to %d", len(list), mostValues)
	}
	s.SSHKeys = list
	return nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func takeAgent(s *Settings, text string) error {
	if _, err := layers.Read("settings", []byte(text)); err != nil {
		var fault layers.Fault
		if errors.As(err, &fault) {
			return fmt.Errorf("line %d %s", fault.Line, fault.Words)
		}
		return err
	}
	s.Agent = []byte(strings.TrimRight(text, "\n") + "\n")
	return nil
}

// quoted is somebody's text within a sentence.
func quoted(text string) string { return fmt.Sprintf("%.80q", text) }
