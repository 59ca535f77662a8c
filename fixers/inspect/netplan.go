package inspect

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// merge adds what a later file says: plain settings are overwritten, lists are
// appended to, and the parts of match are settings.
//
// Source: netplan-generate(8), "Handling multiple files".
func (d *NetplanDef) merge(later NetplanDef) {
	maps.Copy(d.Values, later.Values)
	maps.Copy(d.Passthrough, later.Passthrough)
	d.Addresses = append(d.Addresses, later.Addresses...)
	d.Interfaces = append(d.Interfaces, later.Interfaces...)
	d.Gateways = append(d.Gateways, later.Gateways...)
	d.HasMatch = d.HasMatch || later.HasMatch
	d.Match.Name = cmp.Or(later.Match.Name, d.Match.Name)
	d.Match.MAC = cmp.Or(later.Match.MAC, d.Match.MAC)
	if len(later.Match.Drivers) > 0 {
		d.Match.Drivers = later.Match.Drivers
	}
}

// netplanFolders are where netplan's files are, by precedence. What is in /run
// is gone before the guest is looked at.
var netplanFolders = []string{"/etc/netplan", "/usr/lib/netplan", "/lib/netplan"}

// netplanConfig is netplan's configuration of all files.
type netplanConfig struct {
	defs     []NetplanDef // in the order in which they come first
	sources  []string     // where they do
	renderer string       // for all
}

// netplanConfig reads netplan's files, once.
func (t *files) netplanConfig() *netplanConfig {
	if t.plan == nil {
		t.plan = &netplanConfig{}
		size := 0
		for _, file := range t.override("*.yaml", netplanFolders...) {
			data, _ := t.read(file, maxConfig)
			if size += len(data); size > maxYAMLFiles {
				t.problem(file, "netplan's files are larger than expected, the rest is not read")
				break
			}
			defs, renderer, err := ParseNetplan(data)
			if err != nil {
				t.problem(file, err.Error())
				continue
			}
			t.plan.renderer = cmp.Or(renderer, t.plan.renderer)
			if t.plan.add(defs, file); len(t.plan.defs) >= maxFiles {
				t.problem(file, "more definitions than expected, the rest is not read")
			}
		}
	}
	return t.plan
}

// add adds the definitions of one more file.
func (c *netplanConfig) add(defs []NetplanDef, file string) {
	for _, d := range defs {
		known := slices.IndexFunc(c.defs, func(k NetplanDef) bool { return k.ID == d.ID && k.Section == d.Section })
		switch {
		case known >= 0:
			c.defs[known].merge(d)
		case len(c.defs) < maxFiles:
			c.defs, c.sources = append(c.defs, d), append(c.sources, at(file, d.Line))
		}
	}
}

// netplan reads netplan's definitions.
func (t *files) netplan() []Interface {
	var found []Interface
	masters := map[string]string{}
	c := t.netplanConfig()
	for n, d := range c.defs {
		i := d.iface()
		i.By, i.Source = ByNetworkd, c.sources[n]
		if cmp.Or(d.Values["renderer"], c.renderer) == "NetworkManager" {
			i.By = ByNetworkManager
		}
		found = append(found, i)
		for _, port := range d.Interfaces[:min(len(d.Interfaces), maxWords)] {
			masters[port] = d.ID
		}
	}
	return withPorts(found, masters)
}

// iface is what a definition configures.
func (d NetplanDef) iface() Interface {
	i := Interface{
		Name: d.ID, ID: d.ID, Kind: netplanSections[d.Section], Parent: d.Values["link"], Stack: "netplan",
		Off: slices.Contains([]string{"manual", "off"}, d.Values["activation-mode"]) || isFalse(d.Passthrough["connection.autoconnect"]),
	}
	if i.Kind == "" && d.HasMatch {
		i.Name, i.MAC, i.Driver = d.Match.Name, d.Match.MAC, strings.Join(d.Match.Drivers, " ")
		if i.MAC != "" || i.Driver != "" {
			i.Name = cmp.Or(d.Values["set-name"], i.Name)
		}
	}
	if isTrue(d.Values["dhcp6"]) {
		i.ask(Auto)
	}
	if isTrue(d.Values["dhcp4"]) {
		i.ask(DHCP)
	}
	for _, a := range d.Addresses[:min(len(d.Addresses), maxAddresses)] {
		i.add(prefix(a, ""))
	}
	for _, g := range append([]string{d.Values["gateway4"], d.Values["gateway6"]}, d.Gateways...) {
		i.route(address(g))
	}
	nm := nmProfile{Interface: i}
	nm.keyfileIP(d.passed("ipv4."), "24")
	nm.keyfileIP(d.passed("ipv6."), "64")
	nm.settle()
	return nm.Interface
}

// passed are the settings of one section that are passed to NetworkManager.
func (d NetplanDef) passed(section string) map[string]string {
	s := map[string]string{}
	for key, value := range d.Passthrough {
		if key, ok := strings.CutPrefix(key, section); ok {
			s[key] = value
		}
	}
	return s
}

// netplanPins are the names that netplan gives to cards: it makes a link file
// of each.
//
// Source: netplan's networkd.c, write_link_file.
func (t *files) netplanPins() []Pin {
	var pins []Pin
	c := t.netplanConfig()
	for n, d := range c.defs {
		name := d.Values["set-name"]
		if d.Section != "ethernets" || name == "" || d.Match.MAC == "" && len(d.Match.Drivers) == 0 {
			continue
		}
		pins = append(pins, Pin{Name: name, MAC: d.Match.MAC, Driver: strings.Join(d.Match.Drivers, " "), Kind: "netplan", Source: c.sources[n]})
	}
	return pins
}

// netplanGenerator is the program by which systemd starts netplan; "" when it is
// not there. It starts networkd too where that is what it renders for.
func (t *files) netplanGenerator() string {
	for _, folder := range []string{"/usr/lib", "/lib"} {
		if name := folder + "/systemd/system-generators/netplan"; t.stands(name) {
			return name
		}
	}
	return ""
}
