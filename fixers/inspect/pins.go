package inspect

import (
	"regexp"
	"strings"
)

// UdevMatch is one part of a udev rule: a comparison or an assignment.
type UdevMatch struct {
	Key   string // with its attribute: ATTR{address}
	Op    string // ==, !=, =, +=, -=, :=
	Value string
}

var udevPart = regexp.MustCompile(`\s*,?\s*([A-Z_]+(?:\{[^}]*\})?)\s*(==|!=|\+=|-=|:=|=)\s*[ei]?"((?:[^"\\]|\\.)*)"`)

// ParseUdevRule splits one rule into its parts; what is no rule has none.
//
// Source: udev(7).
func ParseUdevRule(line string) []UdevMatch {
	var parts []UdevMatch
	if strings.HasPrefix(strings.TrimSpace(line), "#") {
		return nil
	}
	for _, m := range udevPart.FindAllStringSubmatch(line, 64) {
		parts = append(parts, UdevMatch{m[1], m[2], m[3]})
	}
	return parts
}

// udevPins are the guest's own rules that name network interfaces.
func (t *files) udevPins() []Pin {
	var pins []Pin
	for _, file := range t.glob("/etc/udev/rules.d/*.rules") {
		data, ok := t.read(file, maxConfig)
		if !ok {
			continue
		}
		for _, l := range logicalLines(data) {
			if p, ok := pinOf(ParseUdevRule(l.text)); ok {
				p.Source = at(file, l.number)
				pins = append(pins, p)
			}
		}
	}
	return pins
}

// pinOf is what a rule pins; not ok when it names no network interface. What
// matches anything is not asked for.
func pinOf(parts []UdevMatch) (Pin, bool) {
	p := Pin{Kind: "udev-rule"}
	net := false
	for _, m := range parts {
		compares := m.Op == "=="
		switch {
		case (m.Key == "SUBSYSTEM" || m.Key == "SUBSYSTEMS") && compares:
			net = net || m.Value == "net"
		case m.Key == "NAME" && (m.Op == "=" || m.Op == ":="):
			p.Name = m.Value
		case !compares || m.Value == "*" || m.Value == "?*":
		case m.Key == "ATTR{address}" || m.Key == "ATTRS{address}" || m.Key == "SYSFS{address}":
			p.MAC = hardwareAddress(m.Value)
		case m.Key == "DRIVERS" || m.Key == "DRIVER" || m.Key == "ENV{ID_NET_DRIVER}":
			p.Driver = m.Value
		case m.Key == "KERNELS" || m.Key == "ID" || m.Key == "ENV{ID_PATH}":
			p.Path = m.Value
		}
	}
	return p, net && p.Name != ""
}

// linkPins are systemd's .link files that give a name.
func (t *files) linkPins() []Pin {
	var pins []Pin
	for _, file := range t.override("*.link", systemdDirs...) {
		lines, ok := t.unit(file)
		if !ok {
			continue
		}
		p := Pin{Kind: "link"}
		for _, l := range lines {
			switch l.Section + "." + l.Key {
			case "Match.MACAddress", "Match.PermanentMACAddress":
				p.MAC = hardwareAddress(l.Value)
			case "Match.Driver":
				p.Driver = l.Value
			case "Match.Path":
				p.Path = l.Value
			case "Link.Name":
				p.Name, p.Source = l.Value, at(file, l.Line)
			}
		}
		if p.Name != "" {
			pins = append(pins, p)
		}
	}
	return pins
}
