package inspect

import (
	"net/netip"
	"path"
	"regexp"
	"strings"
)

// UnitLine is one setting of a file in systemd's format.
type UnitLine struct {
	Line    int // from 1
	Section string
	Nth     int // how many sections came before it
	Key     string
	Value   string
}

// ParseUnit reads a file in systemd's format.
//
// Source: systemd.syntax(7).
func ParseUnit(data []byte) []UnitLine {
	var all []UnitLine
	section, nth := "", 0
	for _, l := range unitLines(data) {
		if strings.HasPrefix(l.text, "[") && strings.HasSuffix(l.text, "]") {
			section = l.text[1 : len(l.text)-1]
			nth++
			continue
		}
		key, value, ok := strings.Cut(l.text, "=")
		if ok {
			all = append(all, UnitLine{l.number, section, nth, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return all
}

// unitLines are logical lines without comments, those within one too.
func unitLines(data []byte) []logicalLine {
	var j joiner
	for i, line := range splitLines(data) {
		text := strings.TrimSpace(line)
		if !strings.HasPrefix(text, "#") && !strings.HasPrefix(text, ";") {
			j.add(i+1, text)
		}
	}
	return j.end()
}

// networkd reads systemd-networkd's .network files with their drop-ins. Those
// that systemd ships for containers and tunnels are left out.
func (t *files) networkd() []Interface {
	var found []Interface
	for _, file := range t.override("*.network", systemdDirs...) {
		lines, ok := t.unit(file)
		if !ok || shipped(lines) {
			continue
		}
		for n, dropIn := range t.override("*.conf", dropIns(path.Base(file))...) {
			more, _ := t.unit(dropIn)
			lines = append(lines, apart(more, n+1)...)
		}
		found = append(found, networkOf(file, lines))
	}
	return found
}

// dropIns are the folders of a file's drop-ins.
func dropIns(name string) []string {
	var dirs []string
	for _, dir := range systemdDirs {
		dirs = append(dirs, path.Join(dir, name+".d"))
	}
	return dirs
}

// apart numbers the sections of drop-in n so that they are not taken for those
// of another file.
func apart(lines []UnitLine, n int) []UnitLine {
	for i := range lines {
		lines[i].Nth += n << 32
	}
	return lines
}

func (t *files) unit(file string) ([]UnitLine, bool) {
	data, ok := t.read(file, maxConfig)
	return ParseUnit(data), ok
}

// shippedName matches the names in the files that systemd brings itself: the
// ends of links to containers and VMs, and tunnels. Since version 254 these
// files match by Kind, before by Driver.
//
// Source: systemd network/80-*.network.
var shippedName = regexp.MustCompile(`^(host0|v[bet]-\*|vz-\*|6rd-\*)$`)

// shipped tells of the files that systemd brings itself: all match what no
// network card of a guest is.
func shipped(lines []UnitLine) bool {
	for _, l := range lines {
		if l.Section != "Match" {
			continue
		}
		if l.Key == "Virtualization" && l.Value == "container" || l.Key == "Type" && l.Value == "wlan" ||
			l.Key == "Kind" && !strings.HasPrefix(l.Value, "!") || l.Key == "Name" && shippedName.MatchString(l.Value) {
			return true
		}
	}
	return false
}

// networkOf is what a .network file configures.
func networkOf(file string, lines []UnitLine) Interface {
	i := Interface{Stack: "networkd", Method: "manual", Source: file}
	var macs []string
	defaults := map[int]netip.Addr{} // gateways of [Route] sections by section
	for _, l := range lines {
		switch l.Section + "." + l.Key {
		case "Match.Name":
			i.Name, i.Source = l.Value, at(file, l.Line)
		case "Match.MACAddress", "Match.PermanentMACAddress":
			macs = append(macs, strings.Fields(l.Value)...)
		case "Network.DHCP":
			if dhcp(l.Value) {
				i.Method = "dhcp"
			}
		case "Network.Address", "Address.Address":
			if p, ok := prefix(l.Value, ""); ok {
				i.Addresses = append(i.Addresses, p)
			}
		case "Network.Gateway":
			i.gateway(address(l.Value))
		case "Route.Gateway":
			defaults[l.Nth] = address(l.Value)
		}
	}
	for _, l := range lines {
		if l.Section == "Route" && l.Key == "Destination" && !isDefault(l.Value) {
			delete(defaults, l.Nth)
		}
	}
	for _, l := range lines { // in the file's order
		i.gateway(defaults[l.Nth])
	}
	if len(macs) == 1 {
		i.MAC = hardwareAddress(macs[0])
	}
	if i.Method == "manual" && len(i.Addresses) > 0 {
		i.Method = "static"
	}
	return i
}

// gateway takes the first gateway that there is.
func (i *Interface) gateway(a netip.Addr) {
	if !i.Gateway.IsValid() {
		i.Gateway = a
	}
}

func dhcp(value string) bool {
	switch strings.ToLower(value) {
	case "yes", "true", "1", "on", "both", "ipv4", "ipv6", "v4", "v6":
		return true
	}
	return false
}

func isDefault(destination string) bool {
	p, err := netip.ParsePrefix(destination)
	return err == nil && p.Bits() == 0
}
