package inspect

import (
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// InterfacesStanza is one stanza of ifupdown's configuration, or one line of
// those that stand alone (auto, source).
type InterfacesStanza struct {
	Line    int      // from 1
	Words   []string // of the first line: iface eth0 inet static
	Options []InterfacesOption
}

// InterfacesOption is one line within an iface stanza.
type InterfacesOption struct {
	Key, Value string
}

// ParseInterfaces reads ifupdown's configuration.
//
// Source: interfaces(5).
func ParseInterfaces(data []byte) []InterfacesStanza {
	var all []InterfacesStanza
	inside := false // an iface or mapping stanza
	for _, l := range logicalLines(data) {
		words := strings.Fields(l.text)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		switch w := words[0]; {
		case w == "iface" || w == "mapping":
			inside = true
			all = append(all, InterfacesStanza{Line: l.number, Words: words})
		case w == "auto" || strings.HasPrefix(w, "allow-") || strings.HasPrefix(w, "no-auto-") ||
			w == "source" || w == "source-directory" || w == "rename" || w == "template":
			inside = false
			all = append(all, InterfacesStanza{Line: l.number, Words: words})
		case inside:
			s := &all[len(all)-1]
			s.Options = append(s.Options, InterfacesOption{w, strings.Join(words[1:], " ")})
		}
	}
	return all
}

// logicalLine is a line with those that continue it.
type logicalLine struct {
	number int
	text   string
}

// logicalLines joins lines that end with a backslash. The number is that of
// the first one.
func logicalLines(data []byte) []logicalLine {
	var j joiner
	for i, line := range splitLines(data) {
		j.add(i+1, line)
	}
	return j.end()
}

// joiner joins lines in time that grows with their length alone.
type joiner struct {
	all   []logicalLine
	first int
	parts []string // of the line that goes on
}

func (j *joiner) add(number int, line string) {
	text, more := strings.CutSuffix(line, `\`)
	if j.parts == nil {
		j.first = number
	}
	if j.parts = append(j.parts, text); !more {
		j.end()
	}
}

// end ends the line that goes on, and is all lines.
func (j *joiner) end() []logicalLine {
	if j.parts != nil {
		j.all = append(j.all, logicalLine{j.first, strings.Join(j.parts, " ")})
	}
	j.parts = nil
	return j.all
}

// ifupdown reads /etc/network/interfaces and what it includes; the loop-back
// is left out. Ports that have no stanza of their own are added.
func (t *files) ifupdown() []Interface {
	var found []Interface
	var up, read []string
	masters := map[string]string{} // by port
	steps := 0
	var visit func(file string)
	visit = func(file string) {
		if slices.Contains(read, file) || len(read) >= maxFiles {
			return
		}
		read = append(read, file)
		data, ok := t.read(file, maxConfig)
		if !ok {
			return
		}
		for _, s := range ParseInterfaces(data) {
			if steps++; steps > maxFiles {
				t.problem(file, "more stanzas than expected, the rest is not read")
				return
			}
			for _, include := range t.includes(s, path.Dir(file)) {
				visit(include)
			}
			if s.Words[0] == "auto" || strings.HasPrefix(s.Words[0], "allow-") {
				up = append(up, s.Words[1:min(len(s.Words), maxWords)]...)
			}
			if i, ok := s.iface(file); ok {
				found = append(found, i)
				for _, port := range s.ports() {
					masters[port] = i.Name
				}
			}
		}
	}
	visit("/etc/network/interfaces")
	kinds := map[string]Interface{}
	for n := range found {
		found[n].Off = !broughtUp(up, found[n].Name)
		if found[n].Kind != "" {
			kinds[found[n].Name] = found[n]
		}
	}
	for n := range found { // another family's stanza does not say it again
		found[n].Kind, found[n].Parent = kinds[found[n].Name].Kind, kinds[found[n].Name].Parent
	}
	return withPorts(found, masters)
}

// maxWords is how many words of one line are looked at.
const maxWords = 16

// broughtUp tells whether one of the names or patterns behind auto and allow-…
// is of an interface. A pattern begins with a slash.
//
// Source: interfaces(5), "auto" and its patterns.
func broughtUp(up []string, name string) bool {
	return slices.ContainsFunc(up, func(u string) bool {
		pattern, ok := strings.CutPrefix(u, "/")
		if !ok {
			return u == name
		}
		pattern, _, _ = strings.Cut(pattern, "/")
		return matches(pattern, name)
	})
}

// withPorts gives each port its master; one without a configuration of its own
// gets one, where its master's is.
func withPorts(found []Interface, masters map[string]string) []Interface {
	for _, port := range slices.Sorted(maps.Keys(masters)) {
		own := false
		for n := range found {
			if found[n].Name == port || found[n].ID == port {
				found[n].Master, own = masters[port], true
			}
		}
		if own {
			continue
		}
		of := slices.IndexFunc(found, func(i Interface) bool { return i.Name == masters[port] || i.ID == masters[port] })
		found = append(found, Interface{Name: port, Master: masters[port], Method: Manual, Off: found[of].Off,
			Stack: found[of].Stack, By: found[of].By, Source: found[of].Source})
	}
	return found
}

// includes are the files that a source line names. run-parts passes over names
// with other characters, such as those of backups.
func (t *files) includes(s InterfacesStanza, dir string) []string {
	var files []string
	if s.Words[0] != "source" && s.Words[0] != "source-directory" {
		return nil
	}
	for _, pattern := range s.Words[1:min(len(s.Words), maxWords)] {
		if !path.IsAbs(pattern) {
			pattern = path.Join(dir, pattern)
		}
		matches := t.glob(pattern)
		if s.Words[0] == "source-directory" {
			matches = slices.DeleteFunc(t.glob(pattern+"/*"), func(f string) bool { return strings.ContainsAny(path.Base(f), "~#") })
		}
		for _, name := range matches {
			if t.isFile(name) {
				files = append(files, name)
			}
		}
	}
	return files
}

// iface is what an iface stanza configures. Its hwaddress is one to be set.
func (s InterfacesStanza) iface(file string) (Interface, bool) {
	if s.Words[0] != "iface" || len(s.Words) < 2 || s.Words[1] == "lo" {
		return Interface{}, false
	}
	i := Interface{Name: s.Words[1], Stack: "ifupdown", By: ByIfupdown, Source: at(file, s.Line)}
	family, method := "inet", ""
	if len(s.Words) > 3 {
		family, method = s.Words[2], s.Words[3]
	}
	mask := ""
	var addresses, gateways []string
	for _, o := range s.Options {
		switch o.Key {
		case "address":
			addresses = append(addresses, o.Value)
		case "netmask":
			mask = o.Value
		case "gateway":
			gateways = append(gateways, o.Value)
		case "vlan-raw-device", "vlan_raw_device":
			i.Parent = o.Value
		case "bond-master", "bond_master":
			i.Master = o.Value
		case "bond-mode", "bond_mode", "bond-slaves", "bond_slaves", "slaves":
			i.Kind = "bond"
		case "bridge-ports", "bridge_ports":
			i.Kind = "bridge"
		}
	}
	if parent, tag, ok := strings.Cut(i.Name, "."); ok && tag != "" && i.Parent == "" {
		i.Parent = parent
	}
	if i.Parent != "" {
		i.Kind = "vlan"
	}
	switch {
	case method == "static":
		for _, a := range addresses {
			i.add(prefix(a, mask))
		}
		for _, g := range gateways {
			i.route(address(g))
		}
	case method == "dhcp" && family == "inet":
		i.ask(DHCP)
	case family == "inet6" && (method == "dhcp" || method == "auto"):
		i.ask(Auto)
	case method != "manual" && method != "" && i.Kind == "":
		i.Kind = method // ppp, tunnel, v4tunnel …
	}
	i.settle()
	return i, true
}

// ports are the interfaces that a stanza names as parts of its bridge or bond.
//
// Source: bridge-utils-interfaces(5), bridge_ports; ifenslave's README.Debian.
func (s InterfacesStanza) ports() []string {
	var ports []string
	for _, o := range s.Options {
		switch strings.ReplaceAll(o.Key, "-", "_") {
		case "bridge_ports", "bond_slaves", "slaves":
			words := strings.Fields(o.Value)
			ports = append(ports, words[:min(len(words), maxWords)]...)
		}
	}
	return slices.DeleteFunc(ports, func(p string) bool { return p == "none" || p == "all" || strings.ContainsAny(p, "*?[") })
}

// address reads an IP address; the zero Addr when it is none.
func address(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// prefix reads an address with its length, which may be apart as a length or
// a dotted mask; without one it is the address alone.
func prefix(s, mask string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, true
	}
	a := address(s)
	if !a.IsValid() {
		return netip.Prefix{}, false
	}
	bits, ok := maskLength(mask)
	if !ok {
		bits = a.BitLen()
	}
	p := netip.PrefixFrom(a, bits)
	return p, p.IsValid()
}

// maskLength reads 24 or 255.255.255.0.
func maskLength(mask string) (int, bool) {
	if n, err := strconv.Atoi(strings.TrimPrefix(mask, "/")); err == nil {
		return n, n >= 0
	}
	a := address(mask)
	if !a.Is4() {
		return 0, false
	}
	b := a.As4()
	ones, bits := net.IPMask(b[:]).Size()
	return ones, bits == 32
}

// hardwareAddress writes an Ethernet address as everywhere in the facts: lower
// case with colons; "" when it is none.
func hardwareAddress(s string) string {
	mac, err := net.ParseMAC(strings.TrimSpace(s))
	if err != nil || len(mac) != 6 {
		return ""
	}
	return mac.String()
}
