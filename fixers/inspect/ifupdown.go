package inspect

import (
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
// is left out.
func (t *files) ifupdown() []Interface {
	var found []Interface
	var read []string
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
			if i, ok := s.iface(file); ok {
				found = append(found, i)
			}
		}
	}
	visit("/etc/network/interfaces")
	return found
}

// includes are the files that a source line names. run-parts passes over names
// with other characters, such as those of backups.
func (t *files) includes(s InterfacesStanza, dir string) []string {
	var files []string
	if s.Words[0] != "source" && s.Words[0] != "source-directory" {
		return nil
	}
	for _, pattern := range s.Words[1:min(len(s.Words), 16)] {
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

// iface is what an iface stanza configures.
func (s InterfacesStanza) iface(file string) (Interface, bool) {
	if s.Words[0] != "iface" || len(s.Words) < 2 || s.Words[1] == "lo" {
		return Interface{}, false
	}
	i := Interface{Name: s.Words[1], Stack: "ifupdown", Source: at(file, s.Line)}
	if len(s.Words) > 3 {
		i.Method = s.Words[3]
	}
	mask := ""
	var addresses []string
	for _, o := range s.Options {
		switch o.Key {
		case "address":
			addresses = append(addresses, o.Value)
		case "netmask":
			mask = o.Value
		case "gateway":
			i.Gateway = address(o.Value)
		case "hwaddress":
			i.MAC = hardwareAddress(strings.TrimPrefix(o.Value, "ether "))
		}
	}
	for _, a := range addresses {
		if p, ok := prefix(a, mask); ok {
			i.Addresses = append(i.Addresses, p)
		}
	}
	return i, true
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
