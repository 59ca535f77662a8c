package firstboot

import (
	"fmt"
	"slices"
	"strings"
)

// key is one setting: how people name it, what it is for, and how it is taken.
type key struct {
	name        string
	label       string
	description string
	example     string // of hyper2kvm.yaml, in the documentation
	most        int    // bytes of a value
	list        bool   // several values, divided by blanks or commas
	file        string // the name of the file in which a seed has it; empty for what is written in one line
	lines       bool   // several values, one a line
	nested      bool   // in YAML its value may be fields of its own
	secret      bool   // neither shown, nor taken from what everybody on the appliance can read
	network     bool   // one that is wrong makes the network DHCP's
	take        func(s *Settings, text string) error
}

// Bounds of values, bytes.
const (
	mostName = 253
	mostList = 1 << 10
	mostText = 64<<10 - 1 // of a property's value in vSphere
)

// keys are all settings, in the order in which they are shown and taken.
var keys = []key{
	{name: "hostname", label: "Host name", example: "mover1.example.org", most: mostName, take: takeHostname,
		description: "The appliance's name, alone or with its domain."},
	{name: "address", label: "Addresses", example: "192.0.2.10/24 2001:db8::10/64", most: mostList, list: true, network: true, take: takeAddress,
		description: "IPv4 and IPv6 addresses with their prefix lengths; dhcp, or nothing, for those that the network gives."},
	{name: "gateway", label: "Gateways", example: "192.0.2.1", most: mostList, list: true, network: true, take: takeGateway,
		description: "The router for IPv4 and the one for IPv6, with addresses."},
	{name: "dns", label: "DNS servers", example: "192.0.2.53", most: mostList, list: true, take: takeDNS,
		description: "Addresses of DNS servers, instead of those that DHCP gives."},
	{name: "search", label: "Search domains", example: "example.org", most: mostList, list: true, take: takeSearch,
		description: "Domains in which names without one are looked for."},
	{name: "ntp", label: "NTP servers", example: "ntp.example.org", most: mostList, list: true, take: takeNTP,
		description: "Names or addresses of time servers, instead of those that DHCP gives."},
	{name: "nic", label: "Network card", example: "00:50:56:01:02:03", most: mostName, network: true, take: takeNIC,
		description: "The MAC address or the name of the card that is used, where there are several."},
	{name: "keymap", label: "Keyboard layout", example: "de", most: mostName, take: takeKeymap,
		description: "The layout of the console's keyboard, by its name in Debian's console-data, such as de, fr or uk; us without one."},
	{name: "trust", label: "Certificates of admins", example: "{file: admin.pem}", most: mostText, file: "trust.pem", take: takeTrust,
		description: "Client certificates, PEM, whose holders are admins from the start, as long as nobody else has access."},
	{name: "certificate", label: "Certificate", example: "{file: tls.pem}", most: mostText, file: "certificate.pem", take: takeCertificate,
		description: "The appliance's own certificate for HTTPS, PEM, with its chain; needs its key. Without one the appliance makes its own."},
	{name: "key", label: "Private key", example: "{file: tls.key}", most: mostText, file: "key.pem", secret: true, take: takeKey,
		description: "The private key of the certificate, PEM, not encrypted."},
	{name: "authorities", label: "Certificate authorities", example: "{file: ca.pem}", most: mostText, file: "authorities.pem", take: takeAuthorities,
		description: "Certificates of authorities, PEM, for settings that name the file /etc/hyper2kvm/tls/authorities.pem, such as oidc.ca."},
	{name: "join-token", label: "Join token", example: "{file: join}", most: 8 << 10, file: "join-token", secret: true, take: takeJoinToken,
		description: "The token of hyper2kvm fleet invite, with which the appliance joins a hub as a worker at its first start."},
	{name: "hub", label: "Hub", example: "hub.example.org:4222", most: mostName, take: takeHub,
		description: "Host and port of the hub that is joined; the token's first host and 4222 without it."},
	{name: "ssh-key", label: "SSH keys", example: "ssh-ed25519 AAAA… marta", most: mostText, file: "ssh-key.pub", lines: true, take: takeSSHKey,
		description: "Public keys with which root logs in over SSH, one a line. Without one there is no SSH."},
	{name: "settings", label: "Agent settings", example: "{file: agent.yaml}", most: mostText, file: "settings.yaml", nested: true, take: takeAgent,
		description: "Further settings of the agent, YAML, as hyper2kvm config schema describes them. In one line: {log: {level: debug}}."},
}

// keyNamed is the key of a name; false if there is none.
func keyNamed(name string) (key, bool) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return key{}, false
	}
	return keys[i], true
}

// unknown is what to do about a name that no key has.
func unknown(name string) string {
	var known []string
	for _, k := range keys {
		if len(name) > 2 && near(strings.ToLower(name), k.name) {
			return "there is no such key: write " + k.name
		}
		known = append(known, k.name)
	}
	return "there is no such key; there are " + strings.Join(known, ", ")
}

// near tells whether two names differ in hyphens, underscores and capitals, in one
// letter, or in two that have changed places.
func near(a, b string) bool {
	bare := strings.NewReplacer("-", "", "_", "", ".", "")
	a, b = bare.Replace(a), bare.Replace(b)
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

// Property is a key as the descriptor of an OVA offers it to whoever deploys it. Its
// product section has neither class nor instance, so that the OVF environment has the
// key as it is.
//
// Source: DMTF DSP0243, section 9.5.
type Property struct {
	Key         string
	Type        string // of OVF
	Qualifiers  string // of OVF: the value's bounds
	Label       string
	Description string
	Password    bool // is not shown
}

// Properties are all keys as properties, in the order in which they are offered.
func Properties() (list []Property) {
	for _, k := range keys {
		list = append(list, Property{Key: k.name, Type: "string", Qualifiers: fmt.Sprintf("MaxLen(%d)", k.most), Label: k.label, Description: k.description, Password: k.secret})
	}
	return list
}

// Flag is a key as the command line takes it.
type Flag struct {
	Key         string
	Name        string
	Description string
	List        bool // may be repeated
	File        bool // its value is a file's name
}

// Flags are all keys as flags. Secrets are taken from files alone, as the others that
// people have in files.
func Flags() (list []Flag) {
	for _, k := range keys {
		f := Flag{Key: k.name, Name: k.name, Description: k.description, List: k.list, File: k.file != ""}
		if k.name == "join-token" { // a token is a word that people would paste
			f.Name += "-file"
		}
		list = append(list, f)
	}
	return list
}
