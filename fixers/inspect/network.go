package inspect

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// stack is one way in which distributions configure networks.
type stack struct {
	name   string
	config []string // any of them shows that it is configured
	units  []string // any of them, enabled, starts it
	read   func(*files) []Interface
}

// stacks are the ways that are known. Those without read are named only.
var stacks = []stack{
	{"ifupdown", []string{"/etc/network/interfaces"}, []string{"networking"}, (*files).ifupdown},
	{"networkd", []string{"/etc/systemd/network/*.network", "/usr/local/lib/systemd/network/*.network", "/usr/lib/systemd/network/*.network", "/lib/systemd/network/*.network"},
		[]string{"systemd-networkd", "dbus-org.freedesktop.network1"}, (*files).networkd},
	{"NetworkManager", []string{"/etc/NetworkManager/system-connections/*", "/etc/NetworkManager/NetworkManager.conf"}, []string{"NetworkManager", "network-manager"}, nil},
	{"netplan", []string{"/etc/netplan/*.yaml"}, []string{"systemd-networkd", "NetworkManager"}, nil},
	{"wicked", []string{"/etc/sysconfig/network/ifcfg-*"}, []string{"wicked", "wickedd"}, nil},
	{"ifcfg", []string{"/etc/sysconfig/network-scripts/ifcfg-*", "/etc/sysconfig/network/ifcfg-*"}, []string{"network", "NetworkManager"}, nil},
}

// network reads how the guest configures its network. A stack is in use when
// it has something to configure and the guest starts it; the interfaces are
// those of stacks in use or, when none is, of all.
func (t *files) network() Network {
	var n Network
	var idle []Interface
	for _, s := range stacks {
		found := Found{s.name, t.configured(s)}
		var interfaces []Interface
		if s.read != nil {
			interfaces = s.read(t)
			found.Source = firstSource(interfaces)
		}
		if found.Source == "" {
			continue
		}
		if by := t.startedBy(s.units); by != "" {
			found.Source += ", started by " + by
			n.Stacks = append(n.Stacks, found)
			n.Interfaces = append(n.Interfaces, interfaces...)
			continue
		}
		n.Idle = append(n.Idle, found)
		idle = append(idle, interfaces...)
	}
	if len(n.Stacks) == 0 { // started in a way that is not known
		n.Interfaces = idle
	}
	n.Pins = append(t.udevPins(), t.linkPins()...)
	return n
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

func at(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }
