package inspect

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
)

// stack is one way in which distributions configure networks.
type stack struct {
	name   string
	config []string // any of them shows that it is configured
	starts func(*files) string
	read   func(*files) []Interface
}

// stacks are the ways that are known.
var stacks = []stack{
	{"ifupdown", []string{"/etc/network/interfaces"}, startedBy("networking"), (*files).ifupdown},
	{"networkd", []string{"/etc/systemd/network/*.network", "/usr/local/lib/systemd/network/*.network", "/usr/lib/systemd/network/*.network", "/lib/systemd/network/*.network"},
		startedBy(networkdUnits...), (*files).networkd},
	{"netplan", []string{"/etc/netplan/*.yaml", "/usr/lib/netplan/*.yaml", "/lib/netplan/*.yaml"}, (*files).netplanGenerator, (*files).netplan},
	{"NetworkManager", []string{"/etc/NetworkManager/system-connections/*", "/etc/NetworkManager/NetworkManager.conf"}, startedBy(nmUnits...), (*files).networkManager},
	{"ifcfg", []string{ifcfgFolder + "/ifcfg-*"}, (*files).ifcfgStartedBy, (*files).ifcfg},
	{"wicked", []string{suseFolder + "/ifcfg-*"}, startedBy("wicked", "wickedd", "network"), (*files).wicked},
}

var (
	networkdUnits    = []string{"systemd-networkd", "dbus-org.freedesktop.network1"}
	nmUnits          = []string{"NetworkManager", "network-manager"}
	initscriptsUnits = []string{"network"}
)

func startedBy(units ...string) func(*files) string {
	return func(t *files) string { return t.startedBy(units) }
}

// network reads how the guest configures its network. A stack is in use when
// it has something to configure and the guest starts it. Where none is, the
// guest starts one in a way that is not known, and none is idle.
func (t *files) network() Network {
	var n Network
	for _, s := range stacks {
		interfaces := s.read(t)
		found := Found{s.name, cmp.Or(firstSource(interfaces), t.configured(s))}
		if found.Source == "" {
			continue
		}
		by := s.starts(t)
		idle := 0
		for _, i := range interfaces {
			if i.Idle = by == "" || t.cannotStart(i); i.Idle {
				idle++
			}
			n.Interfaces = append(n.Interfaces, i)
		}
		if by == "" || idle > 0 && idle == len(interfaces) {
			n.Idle = append(n.Idle, found)
			continue
		}
		found.Source += ", started by " + by
		n.Stacks = append(n.Stacks, found)
	}
	if len(n.Stacks) == 0 {
		for i := range n.Interfaces {
			n.Interfaces[i].Idle = false
		}
	}
	n.Pins = append(t.udevPins(), t.linkPins()...)
	if slices.ContainsFunc(n.Interfaces, func(i Interface) bool { return i.Stack == "netplan" && !i.Idle }) {
		n.Pins = append(n.Pins, t.netplanPins()...)
	}
	return n
}

// ReadNetwork reads how a mounted guest configures its network, and what could
// not be read.
func ReadNetwork(r guest.Reader) (Network, []Found) {
	t := openFiles(r)
	n := t.network()
	return n, t.problems
}

// cannotStart tells of netplan's interfaces whose service the guest does not
// start. It starts networkd by itself, but for a masked one.
func (t *files) cannotStart(i Interface) bool {
	if i.Stack != "netplan" {
		return false
	}
	if i.By == ByNetworkManager {
		return t.startedBy(nmUnits) == ""
	}
	target, err := t.Readlink("/etc/systemd/system/systemd-networkd.service")
	return err == nil && target == "/dev/null"
}

func firstSource(interfaces []Interface) string {
	if len(interfaces) == 0 {
		return ""
	}
	return interfaces[0].Source
}

// configured is the first configuration of a stack, the loop-back's apart.
func (t *files) configured(s stack) string {
	for _, pattern := range s.config {
		for _, name := range t.glob(pattern) {
			if path.Base(name) != "ifcfg-lo" && !strings.HasSuffix(name, "~") {
				return name
			}
		}
	}
	return ""
}

// startedBy is the link that makes the guest start one of the units, whatever
// its init system is; "" if there is none.
func (t *files) startedBy(units []string) string {
	for _, u := range units {
		if at := t.enabled(u, units); at != "" {
			return at
		}
	}
	return ""
}

// enabled is the link that starts a unit. One that has taken the unit's name
// counts if it is one of units.
func (t *files) enabled(unit string, units []string) string {
	service := unit + ".service"
	if target, err := t.Readlink("/etc/systemd/system/" + service); err == nil {
		if !slices.Contains(units, strings.TrimSuffix(path.Base(target), ".service")) {
			return "" // masked, or another program under this name
		}
		return "/etc/systemd/system/" + service
	}
	for _, pattern := range []string{
		"/etc/systemd/system/*.wants/" + service, "/etc/systemd/system/*.requires/" + service,
		"/usr/lib/systemd/system/*.wants/" + service, "/lib/systemd/system/*.wants/" + service,
		"/etc/rc[S2345].d/S[0-9][0-9]" + unit, "/etc/rc.d/rc[2345].d/S[0-9][0-9]" + unit,
		"/etc/init.d/rc[2345].d/S[0-9][0-9]" + unit, "/etc/runlevels/*/" + unit,
	} {
		if at := t.glob(pattern); len(at) > 0 {
			return at[0]
		}
	}
	return ""
}

// override lists the files that match a pattern in folders of falling
// precedence: a file hides those of the same name in later folders, and an
// empty one or a link to /dev/null hides them without taking their place.
//
// Source: systemd.network(5), systemd.link(5).
func (t *files) override(pattern string, dirs ...string) []string {
	var files, names []string
	for _, dir := range dirs {
		for _, name := range t.glob(dir + "/" + pattern) {
			if slices.Contains(names, path.Base(name)) {
				continue
			}
			names = append(names, path.Base(name))
			if info, err := t.view.Stat(name); t.note(name, err) && info.Mode.IsRegular() && info.Size > 0 {
				files = append(files, name)
			}
		}
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return files
}

// systemdDirs are where systemd's network files are, by precedence.
var systemdDirs = []string{"/etc/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"}

// add notes an address, if it is one that a host can have.
func (i *Interface) add(p netip.Prefix, ok bool) {
	if ok && !p.Addr().IsUnspecified() && !slices.Contains(i.Addresses, p) {
		i.Addresses = append(i.Addresses, p)
	}
}

// route notes a default gateway, of each family the first.
func (i *Interface) route(a netip.Addr) {
	a = a.WithZone("")
	switch {
	case a.Is4() && !a.IsUnspecified() && !i.Gateway.IsValid():
		i.Gateway = a
	case a.Is6() && !a.IsUnspecified() && !i.Gateway6.IsValid():
		i.Gateway6 = a
	}
}

// ask notes that addresses are asked for: an IPv4 lease says more than Auto.
func (i *Interface) ask(method string) {
	if method == DHCP || method == Auto && i.Method != DHCP {
		i.Method = method
	}
}

// settle finds the method of an interface that asks nobody for addresses. A
// gateway without an address is no way out.
func (i *Interface) settle() {
	if len(i.Addresses) == 0 {
		i.Gateway, i.Gateway6 = netip.Addr{}, netip.Addr{}
	}
	switch {
	case i.Method == DHCP:
	case len(i.Addresses) > 0:
		i.Method = Static
	case i.Method == "":
		i.Method = Manual
	}
}

// isTrue reads a truth value as systemd, NetworkManager, initscripts and
// netplan write it.
func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "yes", "true", "1", "on", "y", "t":
		return true
	}
	return false
}

// isFalse is for settings that are true when they are absent.
func isFalse(value string) bool {
	switch strings.ToLower(value) {
	case "no", "false", "0", "off", "n", "f":
		return true
	}
	return false
}

// matches tells whether a shell pattern is of a name.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

func at(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }
