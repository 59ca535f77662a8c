package inspect

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
)

const ifcfgFolder = "/etc/sysconfig/network-scripts"

// ifcfgIgnored matches the names that neither initscripts nor NetworkManager
// reads, and those of address ranges, which are no interfaces.
//
// Source: initscripts, network-functions, __sed_discard_ignored_files;
// NetworkManager, nms-ifcfg-rh-utils.c, utils_should_ignore_file.
var ifcfgIgnored = regexp.MustCompile(`(?i)(~|\.(bak|old|orig|rej|rpmnew|rpmorig|rpmsave|augnew|augtmp)|;[0-9a-f]{8}|-range\d+)$`)

// ifcfg reads Red Hat's files, one interface or profile each. Files of aliases
// (ifcfg-eth0:1) add their addresses to their interface.
//
// Source: initscripts, sysconfig.txt; NetworkManager, nms-ifcfg-rh-reader.c.
func (t *files) ifcfg() []Interface {
	files := t.glob(ifcfgFolder + "/ifcfg-*")
	if len(files) == 0 {
		return nil // on SUSE the next one is a folder
	}
	global := t.sysconfig("/etc/sysconfig/network")
	by := t.ifcfgBy()
	var found []Interface
	var aliases []string
	for _, file := range files {
		name := strings.TrimPrefix(path.Base(file), "ifcfg-")
		if ifcfgIgnored.MatchString(name) || name == "lo" {
			continue
		}
		if strings.Contains(name, ":") {
			aliases = append(aliases, file)
			continue
		}
		c := t.sysconfig(file)
		i, ok := redHatInterface(file, c, global)
		if !ok {
			continue
		}
		i.By = by
		if isFalse(c.value["NM_CONTROLLED"]) {
			i.By = ByInitscripts
			i.Off = i.Off || t.startedBy(initscriptsUnits) == ""
		}
		if i.By == ByInitscripts {
			i.asInitscripts(name)
		}
		t.ifcfgRoutes(&i)
		found = append(found, i)
	}
	for _, file := range aliases {
		t.alias(file, found)
	}
	return found
}

// asInitscripts is what the service network makes of a file: it takes a name
// that nothing else gives from the file's, and ifup-eth passes over addresses
// when there is a lease.
func (i *Interface) asInitscripts(name string) {
	if i.Name == "" && i.MAC == "" {
		i.Name = name
	}
	if i.Method == DHCP {
		i.Addresses, i.Gateway, i.Gateway6 = nil, netip.Addr{}, netip.Addr{}
	}
}

// ifcfgBy is what reads Red Hat's files: NetworkManager where its plugin is
// there and not left out of its configuration, else the service network.
func (t *files) ifcfgBy() string {
	if t.nmReadsIfcfg() && t.startedBy(nmUnits) != "" {
		return ByNetworkManager
	}
	return ByInitscripts
}

// nmReadsIfcfg tells whether NetworkManager has a plugin for Red Hat's files,
// and is not configured to go without. Fedora has it in a package of its own
// since 36, and none since 41; RHEL 10 has none.
func (t *files) nmReadsIfcfg() bool {
	const plugin = "libnm-settings-plugin-ifcfg-rh.so"
	there := false
	for _, lib := range []string{"/usr/lib64", "/usr/lib", "/lib64", "/lib"} {
		there = there || len(t.glob(lib+"/NetworkManager/"+plugin)) > 0 || len(t.glob(lib+"/NetworkManager/*/"+plugin)) > 0
	}
	plugins := t.nmSetting("main", "plugins")
	return there && (plugins == "" || strings.Contains(plugins, "ifcfg-rh"))
}

// ifcfgStartedBy is what makes the guest bring up Red Hat's files.
func (t *files) ifcfgStartedBy() string {
	if t.ifcfgBy() == ByNetworkManager {
		return t.startedBy(nmUnits)
	}
	return t.startedBy(initscriptsUnits)
}

// redHatCards are the values of TYPE that are a network card's. Those of wireless
// and InfiniBand cards are not looked at, any other is what the interface is.
var redHatCards = []string{"", "ethernet", "ctc"}

var (
	bondName = regexp.MustCompile(`^bond\d+$`)
	vlanName = regexp.MustCompile(`^vlan\d+$`)
)

// redHatInterface is what one file configures.
func redHatInterface(file string, c, global sysconfig) (Interface, bool) {
	kind := strings.ToLower(c.value["TYPE"])
	if strings.EqualFold(c.value["DEVICETYPE"], "team") {
		kind = "team"
	}
	if kind == "wireless" || kind == "infiniband" || c.value["DEVICE"] == "lo" {
		return Interface{}, false
	}
	i := Interface{
		Name: c.value["DEVICE"], ID: c.value["UUID"], MAC: hardwareAddress(c.value["HWADDR"]),
		Driver: nmCondition(c.value["MATCH_DRIVER"]), Path: nmCondition(c.value["MATCH_PATH"]),
		Master: c.first("MASTER", "BRIDGE", "TEAM_MASTER", "MASTER_UUID", "BRIDGE_UUID", "TEAM_MASTER_UUID", "OVS_BRIDGE"),
		Off:    isFalse(c.value["ONBOOT"]), Stack: "ifcfg", Source: c.at(file, "DEVICE", "NAME"),
	}
	if i.Name == "" {
		i.Name = nmPatterns(c.value["MATCH_INTERFACE_NAME"])
	}
	i.redHatKind(c, kind)
	i.redHatIPv4(c, global)
	i.redHatIPv6(c, global)
	i.settle()
	return i, true
}

// redHatKind finds out what an interface is, and a VLAN's parent. What is no card
// is not found by what a card is.
func (i *Interface) redHatKind(c sysconfig, kind string) {
	parent, tag, dotted := strings.Cut(i.Name, ".")
	switch {
	case kind == "vlan" || isTrue(c.value["VLAN"]) || kind == "" && (dotted && tag != "" || vlanName.MatchString(i.Name)):
		i.Kind = "vlan"
		if i.Parent = c.value["PHYSDEV"]; i.Parent == "" && dotted {
			i.Parent = parent
		}
	case c.value["TEAM_CONFIG"] != "":
		i.Kind = "team"
	case c.value["BONDING_OPTS"] != "" || isTrue(c.value["BONDING_MASTER"]) || kind == "" && bondName.MatchString(i.Name):
		i.Kind = "bond"
	case !slices.Contains(redHatCards, kind):
		i.Kind = kind
	default:
		return
	}
	i.MAC, i.Driver, i.Path = "", "", ""
}

// withNumber is a variable's names: without a number, and with each from 0 on.
func withNumber(name string, n int) string {
	if n < 0 {
		return name
	}
	return fmt.Sprint(name, n)
}

// maxAddresses bounds the addresses of one interface.
const maxAddresses = 256

func (i *Interface) redHatIPv4(c, global sysconfig) {
	switch proto := strings.ToLower(c.value["BOOTPROTO"]); proto {
	case "dhcp", "bootp":
		i.ask(DHCP)
	case "", "none", "static":
	default: // ibft, autoip, shared: what they give is not configured
		return
	}
	for n := -1; n < maxAddresses; n++ {
		text := c.value[withNumber("IPADDR", n)]
		if text == "" && n > 1 { // IPADDR, IPADDR0 and IPADDR1 may be left out
			break
		}
		mask := c.first(withNumber("PREFIX", n), withNumber("NETMASK", n))
		if a := address(text); mask == "" && a.Is4() {
			mask = fmt.Sprint(classLength(a))
		}
		i.add(prefix(text, mask))
	}
	dev := global.value["GATEWAYDEV"]
	if isFalse(c.value["DEFROUTE"]) && dev == "" || dev != "" && dev != i.Name || !inMainTable(strings.TrimPrefix(c.value["IPV4_ROUTE_TABLE"], "0")) {
		return
	}
	for n := -1; n <= 2; n++ {
		i.route(address(c.value[withNumber("GATEWAY", n)]))
	}
	if g := address(global.value["GATEWAY"]); i.holds(g) {
		i.route(g)
	}
}

// holds tells whether an address is in a network that the interface has an
// address in.
func (i *Interface) holds(a netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}

// classLength is the length of an address's network when nobody says it.
//
// Source: ipcalc of initscripts and nm_ip4_addr_get_default_prefix: RFC 791's
// classes.
func classLength(a netip.Addr) int {
	switch b := a.As4(); {
	case b[0] < 128:
		return 8
	case b[0] < 192:
		return 16
	}
	return 24
}

func (i *Interface) redHatIPv6(c, global sysconfig) {
	if !isTrue(cmp.Or(c.value["IPV6INIT"], global.value["IPV6INIT"])) {
		return
	}
	if !isFalse(c.value["IPV6_AUTOCONF"]) || isTrue(c.value["DHCPV6C"]) {
		i.ask(Auto)
	}
	for _, text := range strings.Fields(c.value["IPV6ADDR"] + " " + c.value["IPV6ADDR_SECONDARIES"]) {
		if len(i.Addresses) < maxAddresses {
			i.add(prefix(text, "64"))
		}
	}
	if isFalse(c.value["IPV6_DEFROUTE"]) || !inMainTable(strings.TrimPrefix(c.value["IPV6_ROUTE_TABLE"], "0")) {
		return
	}
	gateway, dev, _ := strings.Cut(c.first("IPV6_DEFAULTGW"), "%")
	if gateway == "" {
		gateway, dev, _ = strings.Cut(global.value["IPV6_DEFAULTGW"], "%")
	}
	if dev = cmp.Or(dev, global.value["IPV6_DEFAULTDEV"]); dev == "" || dev == i.Name {
		i.route(address(gateway))
	}
}

// ifcfgRoutes reads the default route of a file route-NAME, in the syntax of
// ip-route.
func (t *files) ifcfgRoutes(i *Interface) {
	if i.Name == "" || strings.ContainsAny(i.Name, "/*?[") || len(i.Addresses) == 0 {
		return
	}
	for _, family := range []string{"route-", "route6-"} {
		for _, line := range t.lines(ifcfgFolder + "/" + family + i.Name) {
			w := strings.Fields(line)
			if len(w) >= 3 && (w[0] == "default" || isDefault(w[0])) && w[1] == "via" && !slices.Contains(w, "table") {
				i.route(address(w[2]))
			}
		}
	}
}

// alias adds the addresses of a file ifcfg-NAME:ALIAS to the interface.
func (t *files) alias(file string, found []Interface) {
	base, _, _ := strings.Cut(strings.TrimPrefix(path.Base(file), "ifcfg-"), ":")
	c := t.sysconfig(file)
	for n := range found {
		if found[n].Name != base || isFalse(c.value["ONPARENT"]) || found[n].Method == DHCP && found[n].By == ByInitscripts {
			continue
		}
		found[n].redHatIPv4(c, sysconfig{})
		if found[n].Method == Manual {
			found[n].Method = ""
		}
		found[n].settle()
	}
}
