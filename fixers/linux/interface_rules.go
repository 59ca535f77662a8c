package linux

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// ruleKey is one condition or assignment of a udev rule.
var ruleKey = regexp.MustCompile(`([A-Z_]+(?:\{[^}]*\})?)\s*(==|!=|=|\+=|:=)\s*"((?:[^"\\]|\\.)*)"(?:\s*,\s*)?`)

// freeRules makes the guest's naming rules match by MAC alone.
func (n *cardNaming) freeRules(g *guest.View) error {
	files, err := listed(g, ownRules, ".rules")
	if err != nil {
		return err
	}
	for _, file := range files {
		err := g.Edit(file, func(old []byte) ([]byte, error) {
			lines := splitLines(old)
			for i, line := range lines {
				lines[i] = n.freeRule(line, fmt.Sprintf("%s:%d", file, i+1))
			}
			return joinLines(lines), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// boundKeys are the keys of a rule that hold a driver or a place on the bus.
var boundKeys = regexp.MustCompile(`^(DRIVERS?|KERNELS|ID|DEVPATH|PHYSDEVPATH|ENV\{(ID_PATH|ID_NET_DRIVER|ID_NET_NAME_\w+|DEVPATH)\})$`)

// namingRule is what a rule says that names a network card.
type namingRule struct {
	name, mac string
	bound     bool // asks for a driver or a place
	physical  bool // asks for any driver
}

func parseRule(line string) (r namingRule, ok bool) {
	if strings.HasPrefix(strings.TrimSpace(line), "#") {
		return r, false
	}
	for _, k := range ruleKey.FindAllStringSubmatch(line, -1) {
		key, op, value := k[1], k[2], k[3]
		switch {
		case key == "NAME" && op != "==" && op != "!=":
			r.name = value
		case strings.HasSuffix(key, "{address}") && op == "==":
			r.mac = strings.ToLower(value)
		case isBound(key, op, value):
			r.bound = true
		case key == "DRIVERS":
			r.physical = true
		}
	}
	isNet := strings.Contains(line, `"net"`) || r.mac != "" || strings.Contains(line, `"eth`)
	return r, r.name != "" && isNet
}

// freeRule drops from a rule that names a network card the keys that hold its
// driver or its place. The first of them becomes DRIVERS=="?*", which any
// driver satisfies and a VLAN does not, or the MAC if the rule had none.
func (n *cardNaming) freeRule(line, where string) string {
	r, ok := parseRule(line)
	if !ok {
		return line
	}
	if !r.bound {
		n.keep(r.name, r.mac)
		return line
	}
	var instead []string
	if !r.physical {
		instead = append(instead, `DRIVERS=="?*"`)
	}
	if r.mac == "" {
		if r.mac = n.cards.MACOf(r.name); r.mac == "" {
			n.concerns = append(n.concerns, unknownMAC(where, r.name))
			return line
		}
		instead = append(instead, fmt.Sprintf(`%s=="%s"`, addressKey(line), r.mac))
	}
	n.keep(r.name, r.mac)
	return dropBound(line, strings.Join(instead, ", "))
}

// keep notes that a file of the guest gives a card its name by its MAC.
func (n *cardNaming) keep(name, mac string) {
	for i, c := range n.cards.All {
		if c.Name == name && c.MAC == mac {
			n.cards.All[i].Kept = true
		}
	}
}

// isBound tells a condition on a driver of VMware's or a place; "?*" and "*"
// match any.
func isBound(key, op, value string) bool {
	if op != "==" || !boundKeys.MatchString(key) || strings.Trim(value, "?*") == "" {
		return false
	}
	return !strings.Contains(key, "DRIVER") || inspect.VMwareOnly(strings.Split(value, "|"))
}

// addressKey is the card's MAC in the syntax of the rule's udev.
func addressKey(line string) string {
	if strings.Contains(line, "SYSFS{") {
		return "SYSFS{address}"
	}
	return "ATTR{address}"
}

// dropBound takes the bound keys out of a rule and puts a text in the place of
// the first.
func dropBound(line, instead string) string {
	found := slices.DeleteFunc(ruleKey.FindAllStringSubmatchIndex(line, -1), func(at []int) bool {
		return !isBound(line[at[2]:at[3]], line[at[4]:at[5]], line[at[6]:at[7]])
	})
	for i, at := range slices.Backward(found) {
		whole := span{at[0], at[1]}
		if i == 0 && instead != "" {
			quoted := span{at[0], at[7] + 1} // the comma behind it stays
			line = quoted.replace(line, instead)
			continue
		}
		line = whole.replace(line, "")
	}
	end := strings.TrimRight(line, "\r\n")
	return strings.TrimRight(end, ", \t") + line[len(end):]
}

// freeLinks makes networkd's and udev's files that match by driver or place
// match by MAC.
func (n *cardNaming) freeLinks(g *guest.View) error {
	links, err := listed(g, ownLinks, ".link")
	if err != nil {
		return err
	}
	networks, err := listed(g, ownLinks, ".network")
	if err != nil {
		return err
	}
	for _, file := range append(links, networks...) {
		if strings.Contains(file, "/"+linkPrefix) {
			continue
		}
		err := g.Edit(file, func(old []byte) ([]byte, error) { return n.freeLink(old, file), nil })
		if err != nil {
			return err
		}
	}
	return nil
}

var (
	section = regexp.MustCompile(`^\s*\[(\w+)\]`)
	setting = regexp.MustCompile(`^\s*(\w+)\s*=\s*([^\r\n]*?)\s*$`)
)

// match is the [Match] section of a link or network file.
type match struct {
	bound  []int  // lines with a driver or a place
	path   string // ID_PATH that is asked for
	driver string // driver that is asked for
	mac    string // that is asked for as well
	name   string // Name= of the section [Link], or of [Match]
}

func parseMatch(lines []string) match {
	var m match
	in := ""
	for i, line := range lines {
		if g := section.FindStringSubmatch(line); g != nil {
			in = g[1]
		}
		s := setting.FindStringSubmatch(line)
		if s == nil {
			continue
		}
		key, value := s[1], s[2]
		switch {
		case key == "Name" && (in == "Link" || in == "Match"):
			m.name = value
		case in != "Match":
		case key == "MACAddress" || key == "PermanentMACAddress":
			m.mac = strings.ToLower(value)
		case key == "Driver" && inspect.VMwareOnly(strings.Fields(value)):
			m.driver, m.bound = value, append(m.bound, i)
		case key == "Path" && value == anyPCI:
		case key == "Path" || key == "Property" && strings.HasPrefix(value, "ID_PATH="):
			m.path, m.bound = value, append(m.bound, i)
		}
	}
	return m
}

func (n *cardNaming) freeLink(old []byte, file string) []byte {
	lines := splitLines(old)
	found := parseMatch(lines)
	isLink := strings.HasSuffix(file, ".link")
	if isLink && found.name == "" {
		return old
	}
	asksForName := !isLink && found.name != "" && !strings.ContainsAny(found.name, "*?[! ")
	instead := ""
	if found.mac == "" && len(found.bound) > 0 && !asksForName {
		if found.mac = n.cardOf(found); found.mac == "" {
			n.concerns = append(n.concerns, unknownMAC(file, found.what()))
			return old
		}
		instead = strings.ReplaceAll(byMAC(found.mac, n.in.Facts.OS.Systemd), "\n", lineEnd(old))
	}
	if isLink {
		n.keep(found.name, found.mac)
	}
	for n, i := range found.bound {
		lines[i] = ""
		if n == 0 {
			lines[i] = instead
		}
	}
	return joinLines(lines)
}

func (f match) what() string {
	if f.name != "" {
		return f.name
	}
	return f.path + f.driver
}

// cardOf finds the card that a link or network file means: by the name that it
// gives, its place, or its driver if only one card has it.
func (n *cardNaming) cardOf(f match) string {
	return n.meant(f.name, f.path, strings.Fields(f.driver))
}

// meant is the MAC of the one card that a name, a place or drivers say; "" when
// they say none, or several.
func (n *cardNaming) meant(name, path string, drivers []string) string {
	if mac := n.cards.MACOf(name); mac != "" {
		return mac
	}
	driven := n.cards.DrivenBy(drivers)
	var macs []string
	for i, nic := range n.in.Machine.NICs {
		if (len(drivers) == 0 || slices.Contains(driven, i)) && (path == "" || inspect.AtPath(path, nic.Slot)) {
			macs = append(macs, strings.ToLower(nic.MAC))
		}
	}
	if len(macs) != 1 {
		return ""
	}
	return macs[0]
}
