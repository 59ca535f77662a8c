package firstboot

import (
	"crypto/x509"
	"net/netip"

	"hyper2kvm/fixers/guest"
)

// Settings are what sources say together. What is not said is the zero value.
type Settings struct {
	Hostname    string
	Addresses   []netip.Prefix // none: DHCP
	Gateways    []netip.Addr   // one of each family at most, within the addresses' networks
	DNS         []netip.Addr
	Search      []string
	NTP         []string // names or addresses
	NIC         string   // a MAC address in small letters with colons, or a name
	Keymap      string   // one of layouts
	Trust       []*x509.Certificate
	Certificate []byte       // PEM
	Key         guest.Secret // PEM, of Certificate
	Authorities []*x509.Certificate
	JoinToken   guest.Secret
	Hub         string // host and port; not empty with a token
	SSHKeys     []string
	Agent       []byte // YAML, of the agent's settings
}
