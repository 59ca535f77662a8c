package guests

import (
	"fmt"
	"net/netip"
	"strings"

	"hyper2kvm/testers/lan"
)

// Network is what configures the guest's cards.
type Network string

// Networks of Debian.
const (
	Ifupdown       Network = "ifupdown"
	Networkd       Network = "systemd-networkd"
	NetworkManager Network = "NetworkManager"
	Netplan        Network = "netplan"
)

// networks say what each takes. ifupdown is in every base, as in every Debian
// that an installer made; with the others it keeps the loopback interface.
var networks = map[Network]struct {
	packages []string
	files    func(Recipe) []file
}{
	Ifupdown:       {nil, ifupdownFiles},
	Networkd:       {nil, networkdFiles},
	NetworkManager: {[]string{"network-manager"}, networkManagerFiles},
	Netplan:        {[]string{"netplan.io"}, netplanFiles},
}

// leases is where an address comes from that DHCP gives, in both boots.
var leases = netip.MustParsePrefix("192.0.2.0/24")

// dhcp tells whether the card asks for its address.
func (n NIC) dhcp() bool { return !n.Address.IsValid() }

// lost tells whether no configuration is for the card.
func (n NIC) lost() bool { return n.ConfiguredAs != "" }

// configured is the name of the interface that the configuration is for.
func (n NIC) configured() string {
	if n.lost() {
		return n.ConfiguredAs
	}
	return n.Name
}

// neighbour is somebody on the card's network: its gateway, if it has one.
func (n NIC) neighbour() netip.Addr {
	if n.Gateway.IsValid() {
		return n.Gateway
	}
	return n.network().Addr().Next()
}

func (n NIC) network() netip.Prefix {
	if n.dhcp() {
		return leases
	}
	return n.Address.Masked()
}

// expect is what the card does on its network.
func (n NIC) expect() lan.Expect {
	e := lan.Expect{MAC: n.MAC, Gateway: n.Gateway, DHCP: n.dhcp(), Network: leases}
	if !n.dhcp() {
		e.Static = []netip.Prefix{n.Address}
	}
	return e
}

const loopback = `source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback
`

// loopbackFile is ifupdown's configuration in a guest that has another network.
var loopbackFile = file{Path: "etc/network/interfaces", Mode: 0o644, Content: loopback}

func ifupdownFiles(r Recipe) []file {
	var b strings.Builder
	b.WriteString(loopback)
	for _, n := range r.NICs {
		when := "auto"
		if n.lost() {
			when = "allow-hotplug" // the installer's word, which waits for the card in silence
		}
		fmt.Fprintf(&b, `
# The primary network interface
%s %s
iface %[2]s inet static
	address %s
	gateway %s
	dns-nameservers %[4]s
`, when, n.configured(), n.Address, n.Gateway)
	}
	return []file{{Path: "etc/network/interfaces", Mode: 0o644, Content: b.String()}}
}

func networkdFiles(r Recipe) []file {
	files := []file{
		loopbackFile,
		{Path: "etc/systemd/system/multi-user.target.wants/systemd-networkd.service", Link: "/lib/systemd/system/systemd-networkd.service"},
		{Path: "etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service", Link: "/lib/systemd/system/systemd-networkd-wait-online.service"},
	}
	for _, n := range r.NICs {
		how := "DHCP=yes\n"
		if !n.dhcp() {
			how = fmt.Sprintf("Address=%s\nGateway=%s\n", n.Address, n.Gateway)
		}
		files = append(files, file{
			Path: "etc/systemd/network/10-" + n.configured() + ".network", Mode: 0o644,
			Content: fmt.Sprintf("[Match]\nName=%s\n\n[Network]\n%s", n.configured(), how),
		})
	}
	return files
}

// networkManagerFiles are connections as nmcli saves them. Source:
// nm-settings-keyfile(5).
func networkManagerFiles(r Recipe) []file {
	files := []file{loopbackFile}
	for i, n := range r.NICs {
		files = append(files, file{
			Path: "etc/NetworkManager/system-connections/" + n.configured() + ".nmconnection", Mode: 0o600,
			Content: fmt.Sprintf(`[connection]
id=%s
uuid=6b1f27c4-90de-4f3a-b85d-17e0c4a932%02d
type=ethernet
interface-name=%[1]s

[ethernet]

[ipv4]
address1=%[3]s,%s
dns=%[4]s;
method=manual

[ipv6]
addr-gen-mode=stable-privacy
method=auto

[proxy]
`, n.configured(), i, n.Address, n.Gateway),
		})
	}
	return files
}

func netplanFiles(r Recipe) []file {
	var b strings.Builder
	b.WriteString("network:\n  version: 2\n  renderer: networkd\n  ethernets:\n")
	for _, n := range r.NICs {
		fmt.Fprintf(&b, "    %s:\n      addresses: [%s]\n", n.configured(), n.Address)
		if n.Gateway.IsValid() {
			fmt.Fprintf(&b, "      routes:\n        - to: default\n          via: %s\n      nameservers:\n        addresses: [%[1]s]\n", n.Gateway)
		}
	}
	return []file{loopbackFile, {Path: "etc/netplan/01-netcfg.yaml", Mode: 0o600, Content: b.String()}}
}

// udevRule pins a card's name in the form that udev's own generator had up to
// Debian 8. The generator wrote DRIVERS=="?*"; naming the driver, as people do
// who write such rules by hand, is what makes the rule silent on virtio even
// though the hardware address stays.
// Source: systemd 208, rule_generator/write_net_rules.
func (n NIC) udevRule() string {
	return fmt.Sprintf(`# PCI device 0x15ad:0x07b0 (vmxnet3)
SUBSYSTEM=="net", ACTION=="add", DRIVERS=="vmxnet3", ATTR{address}=="%s", ATTR{dev_id}=="0x0", ATTR{type}=="1", NAME="%s"
`, n.MAC, n.Name)
}
