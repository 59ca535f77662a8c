package inspect

import (
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
)

const suseFolder = "/etc/sysconfig/network"

// suseIgnored matches the names that wicked does not read.
//
// Source: wicked, ifcfg(5), FILENAMES AND EXTENSIONS.
var suseIgnored = regexp.MustCompile(`(~|\.(old|bak|orig|scpmbackup|rpmnew|rpmsave|rpmorig))$`)

// suseOnTop are the variables that name what an interface lies on, and what the
// interface is then.
//
// Source: wicked, ifcfg-vlan(5), ifcfg-macvlan(5) and the others.
var suseOnTop = []struct{ variable, kind string }{
	{"ETHERDEVICE", "vlan"}, {"MACVLAN_DEVICE", "macvlan"}, {"MACVTAP_DEVICE", "macvtap"}, {"IPVLAN_DEVICE", "ipvlan"},
	{"IPVTAP_DEVICE", "ipvtap"}, {"VXLAN_DEVICE", "vxlan"},
}

// wicked reads SUSE's files, for wicked and for the scripts before it.
//
// Source: wicked, ifcfg(5), routes(5), ifcfg-bonding(5), ifcfg-bridge(5).
func (t *files) wicked() []Interface {
	var found []Interface
	masters := map[string]string{}
	for _, file := range t.glob(suseFolder + "/ifcfg-*") {
		name := strings.TrimPrefix(path.Base(file), "ifcfg-")
		if suseIgnored.MatchString(name) || name == "lo" || name == "template" {
			continue
		}
		c := t.sysconfig(file)
		found = append(found, suseInterface(name, file, c))
		for _, port := range susePorts(c) {
			masters[port] = name
		}
	}
	found = withPorts(found, masters)
	t.suseRoutes(found)
	for n := range found {
		found[n].settle()
	}
	return found
}

// suseInterface is what one file configures, but for its routes.
func suseInterface(name, file string, c sysconfig) Interface {
	i := Interface{Name: name, Stack: "wicked", By: ByWicked, Source: c.at(file, "IPADDR", "BOOTPROTO")}
	switch {
	case isTrue(c.value["BRIDGE"]):
		i.Kind = "bridge"
	case isTrue(c.value["BONDING_MASTER"]):
		i.Kind = "bond"
	case c.value["TEAM_RUNNER"] != "":
		i.Kind = "team"
	case c.value["TUNNEL"] != "":
		i.Kind = c.value["TUNNEL"]
	case isTrue(c.value["DUMMY"]) || c.value["INTERFACETYPE"] == "dummy":
		i.Kind = "dummy"
	}
	for _, o := range suseOnTop {
		if parent := c.value[o.variable]; parent != "" {
			i.Kind, i.Parent = o.kind, parent
		}
	}
	switch c.value["STARTMODE"] { // manual is the default
	case "auto", "boot", "onboot", "on", "nfsroot", "hotplug", "ifplugd":
	default:
		i.Off = true
	}
	proto := strings.Split(c.value["BOOTPROTO"], "+")
	if slices.Contains(proto, "none") {
		return i
	}
	for _, p := range proto {
		i.ask(map[string]string{"dhcp": DHCP, "dhcp4": DHCP, "dhcp6": Auto, "auto6": Auto}[p])
	}
	for _, v := range slices.Sorted(maps.Keys(c.value)) {
		if suffix, ok := strings.CutPrefix(v, "IPADDR"); ok && len(i.Addresses) < maxAddresses {
			i.add(prefix(c.value[v], c.first("PREFIXLEN"+suffix, "NETMASK"+suffix)))
		}
	}
	return i
}

// susePorts are the interfaces that a bridge, bond or team consists of.
func susePorts(c sysconfig) []string {
	ports := strings.Fields(c.value["BRIDGE_PORTS"])
	for _, v := range slices.Sorted(maps.Keys(c.value)) {
		if strings.HasPrefix(v, "BONDING_SLAVE") || strings.HasPrefix(v, "TEAM_PORT_DEVICE") {
			ports = append(ports, c.value[v])
		}
	}
	return slices.DeleteFunc(ports[:min(len(ports), maxWords)], func(p string) bool { return !safeName(p) })
}

// suseRoutes gives the interfaces their default gateways: from their own files,
// and from the one for all, where a route without an interface belongs to the
// first that has an address in the gateway's network.
func (t *files) suseRoutes(found []Interface) {
	for n := range found {
		for _, r := range suseDefaults(t.lines(suseFolder + "/ifroute-" + found[n].Name)) {
			found[n].route(r.gateway)
		}
	}
	for _, r := range suseDefaults(t.lines(suseFolder + "/routes")) {
		n := slices.IndexFunc(found, func(i Interface) bool {
			return r.name == i.Name || r.name == "" && i.holds(r.gateway)
		})
		if n >= 0 {
			found[n].route(r.gateway)
		}
	}
}

type suseRoute struct {
	gateway netip.Addr
	name    string // of the interface, or ""
}

// suseDefaults are the default routes of a file, whose columns are destination,
// gateway, mask, interface and options.
func suseDefaults(lines []string) []suseRoute {
	var found []suseRoute
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		if len(w) < 2 || w[0] != "default" && !isDefault(w[0]) || slices.Contains(w, "table") {
			continue
		}
		r := suseRoute{gateway: address(w[1])}
		if len(w) > 3 && w[3] != "-" {
			r.name = w[3]
		}
		if len(found) < maxWords {
			found = append(found, r)
		}
	}
	return found
}
