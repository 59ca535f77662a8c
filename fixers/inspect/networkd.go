package inspect

import (
	"net/netip"
	"path"
	"regexp"
	"slices"
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

// networkd reads systemd-networkd's .network files with their drop-ins, in the
// order in which they are tried. Those that systemd ships for containers and
// tunnels are left out.
func (t *files) networkd() []Interface {
	var found []Interface
	kinds := t.netdevs()
	parents := map[string]string{}
	for _, file := range t.override("*.network", systemdDirs...) {
		lines, ok := t.unit(file)
		if !ok || shipped(lines) {
			continue
		}
		for n, dropIn := range t.override("*.conf", dropIns(path.Base(file))...) {
			more, _ := t.unit(dropIn)
			lines = append(lines, apart(more, n+1)...)
		}
		i := networkOf(file, lines)
		for _, l := range lines {
			if l.Section == "Network" && slices.Contains(onTop, l.Key) {
				parents[l.Value] = i.Name
			}
		}
		i.Kind = kinds[i.Name]
		if i.Kind != "" {
			found = append(found, i)
			continue
		}
		for _, i.MAC = range matchedMACs(lines) {
			found = append(found, i)
		}
	}
	for n := range found {
		found[n].Parent = parents[found[n].Name]
	}
	return found
}

// matchedMACs are the MACs of cards that a file is for, of each once; one that is
// empty for a file that asks for none.
func matchedMACs(lines []UnitLine) []string {
	var macs []string
	for _, l := range lines {
		if l.Section != "Match" || l.Key != "MACAddress" && l.Key != "PermanentMACAddress" {
			continue
		}
		for word := range strings.FieldsSeq(l.Value) {
			if mac := hardwareAddress(word); mac != "" && !slices.Contains(macs, mac) && len(macs) < maxWords {
				macs = append(macs, mac)
			}
		}
	}
	if macs == nil {
		return []string{""}
	}
	return macs
}

// onTop are the settings of an interface that name what is made on top of it.
var onTop = []string{"VLAN", "MACVLAN", "IPVLAN", "MACVTAP", "IPVTAP", "VXLAN"}

// netdevs are the kinds of the interfaces that networkd makes, by their name.
func (t *files) netdevs() map[string]string {
	kinds := map[string]string{}
	for _, file := range t.override("*.netdev", systemdDirs...) {
		name, kind := "", ""
		lines, _ := t.unit(file)
		for _, l := range lines {
			switch l.Section + "." + l.Key {
			case "NetDev.Name":
				name = l.Value
			case "NetDev.Kind":
				kind = strings.ToLower(l.Value)
			}
		}
		if name != "" && kind != "" {
			kinds[name] = kind
		}
	}
	return kinds
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

// networkOf is what a .network file configures, but for the MACs that it is for.
func networkOf(file string, lines []UnitLine) Interface {
	i := Interface{Stack: "networkd", By: ByNetworkd, Source: file}
	routes := map[int]*networkdRoute{} // [Route] sections
	for _, l := range lines {
		switch l.Section + "." + l.Key {
		case "Match.Name":
			i.Name, i.Source = l.Value, at(file, l.Line)
		case "Match.Driver":
			i.Driver = l.Value
		case "Match.Path":
			i.Path = l.Value
		case "Match.Property":
			if path, ok := strings.CutPrefix(l.Value, "ID_PATH="); ok {
				i.Path = path
			}
		case "Network.DHCP":
			i.Method = networkdMethods[strings.ToLower(l.Value)]
		case "Network.Address", "Address.Address":
			i.add(prefix(l.Value, ""))
		case "Network.Gateway":
			i.route(address(l.Value))
		case "Network.Bridge", "Network.Bond":
			i.Master = l.Value
		case "Link.ActivationPolicy":
			i.Off = l.Value == "manual" || strings.HasSuffix(l.Value, "down")
		case "Link.Unmanaged":
			i.Off = i.Off || isTrue(l.Value)
		}
		if l.Section == "Route" {
			if routes[l.Nth] == nil {
				routes[l.Nth] = &networkdRoute{}
			}
			routes[l.Nth].set(l.Key, l.Value)
		}
	}
	for _, l := range lines { // in the file's order
		if r := routes[l.Nth]; r != nil && l.Section == "Route" && r.isDefault() {
			i.route(address(r.gateway))
		}
	}
	i.settle()
	return i
}

// networkdMethods are the values of DHCP= that ask for something.
//
// Source: systemd.network(5); those with v are of older releases.
var networkdMethods = map[string]string{
	"yes": DHCP, "true": DHCP, "1": DHCP, "on": DHCP, "both": DHCP, "ipv4": DHCP, "v4": DHCP,
	"ipv6": Auto, "v6": Auto,
}

// networkdRoute is one section [Route].
type networkdRoute struct {
	destination, gateway, table string
}

func (r *networkdRoute) set(key, value string) {
	switch key {
	case "Destination":
		r.destination = value
	case "Gateway":
		r.gateway = value
	case "Table":
		r.table = value
	}
}

func (r *networkdRoute) isDefault() bool {
	return (r.destination == "" || isDefault(r.destination)) && inMainTable(r.table)
}

// inMainTable tells whether a route is in the table that all packets go by.
//
// Source: ip-route(8), the table's number and name.
func inMainTable(table string) bool {
	return table == "" || table == "254" || table == "main"
}

func isDefault(destination string) bool {
	p, err := netip.ParsePrefix(destination)
	return err == nil && p.Bits() == 0
}
