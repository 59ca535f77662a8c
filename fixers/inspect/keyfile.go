package inspect

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ParseKeyfile reads a file in GLib's key file format, in which lines do not go
// on in the next. A section that comes again goes on.
//
// Source: GLib, "Key-value file parser".
func ParseKeyfile(data []byte) []UnitLine {
	var all []UnitLine
	section, nth := "", 0
	for n, line := range splitLines(data) {
		text := strings.TrimSpace(line)
		if strings.HasPrefix(text, "#") {
			continue
		}
		if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
			section = text[1 : len(text)-1]
			nth++
			continue
		}
		if key, value, ok := strings.Cut(text, "="); ok {
			all = append(all, UnitLine{n + 1, section, nth, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return all
}

// keyfile is a profile of NetworkManager: the values by section and key.
type keyfile map[string]map[string]string

// keyfileAliases are the short and the long name of a section.
//
// Source: nm-settings-keyfile(5), "Name aliases".
var keyfileAliases = map[string]string{"802-3-ethernet": "ethernet", "802-11-wireless": "wifi"}

func keyfileOf(lines []UnitLine) keyfile {
	k := keyfile{}
	for _, l := range lines {
		section := cmp.Or(keyfileAliases[l.Section], l.Section)
		if k[section] == nil {
			k[section] = map[string]string{}
		}
		k[section][l.Key] = l.Value
	}
	return k
}

// nmFolders are where NetworkManager's profiles are, by precedence.
var nmFolders = []string{"/etc/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections"}

// nmTemporary matches the names of files that are being written, and those of
// certificates; nmIgnored those of backups.
//
// Source: NetworkManager, nm-keyfile.c, nm_keyfile_utils_ignore_filename.
var (
	nmTemporary = regexp.MustCompile(`\.[a-zA-Z0-9]{6}$`)
	nmIgnored   = regexp.MustCompile(`(?i)(~|\.pem|\.der|\.nmmeta)$|^\.`)
)

// networkManager reads NetworkManager's profiles in the order in which it tries
// them on a card.
func (t *files) networkManager() []Interface {
	var found []nmProfile
	for n, folder := range nmFolders {
		for _, file := range t.glob(folder + "/*") {
			base := path.Base(file)
			if nmIgnored.MatchString(base) || n > 0 && !strings.HasSuffix(base, ".nmconnection") || nmTemporary.MatchString(base) || !t.isFile(file) {
				continue
			}
			if n == 0 && !t.onlyRoots(file) {
				continue
			}
			data, ok := t.read(file, maxConfig)
			if !ok {
				continue
			}
			p, ok := profileOf(file, ParseKeyfile(data))
			if !ok || p.ID != "" && slices.ContainsFunc(found, func(other nmProfile) bool { return other.ID == p.ID }) {
				continue
			}
			found = append(found, p)
		}
	}
	return t.tried(found)
}

// onlyRoots tells whether NetworkManager reads a file: it passes over those
// that others than root could read or may have written.
//
// Source: NetworkManager, nms-keyfile-utils.c, check_file_permissions_stat.
func (t *files) onlyRoots(file string) bool {
	info, err := t.view.Stat(file)
	if !t.note(file, err) {
		return false
	}
	if info.Mode.Perm()&0o077 != 0 || info.UID != 0 {
		t.problem(file, "NetworkManager does not read it: it must be root's and nobody else's to read")
		return false
	}
	return true
}

// nmProfile is a profile, and what says whether it is tried before others.
type nmProfile struct {
	Interface
	priority int
	used     int64 // Unix time; 0: never
}

// tried puts profiles into the order in which NetworkManager tries them, and
// names their ports' masters as they are named.
//
// Source: nm-settings-connection.c, nm_settings_connection_cmp_autoconnect_priority;
// the times of their last use are in /var/lib/NetworkManager/timestamps.
func (t *files) tried(profiles []nmProfile) []Interface {
	if data, ok := t.read("/var/lib/NetworkManager/timestamps", maxConfig); ok {
		times := keyfileOf(ParseKeyfile(data))["timestamps"]
		for n := range profiles {
			if at, err := strconv.ParseInt(times[profiles[n].ID], 10, 64); err == nil {
				profiles[n].used = at
			}
		}
	}
	slices.SortStableFunc(profiles, func(a, b nmProfile) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(b.used, a.used), strings.Compare(a.ID, b.ID))
	})
	unmanaged := t.nmUnmanaged()
	var found []Interface
	for _, p := range profiles {
		p.Off = p.Off || p.Kind == "" && unmanaged.has(p.Interface)
		found = append(found, p.Interface)
	}
	return found
}

// profileOf is what a profile configures; not ok when it is of no use to a
// network card, as those of wireless networks.
//
// Source: nm-settings-keyfile(5), nm-settings-nmcli(5).
func profileOf(file string, lines []UnitLine) (nmProfile, bool) {
	k := keyfileOf(lines)
	c := k["connection"]
	kind := cmp.Or(keyfileAliases[c["type"]], c["type"], "ethernet")
	if kind == "wifi" || kind == "vpn" || kind == "loopback" || kind == "bluetooth" || kind == "gsm" || len(k) == 0 {
		return nmProfile{}, false
	}
	p := nmProfile{Interface: Interface{
		Name: cmp.Or(c["interface-name"], nmPatterns(k["match"]["interface-name"])), ID: c["uuid"],
		MAC:    keyfileMAC(k["ethernet"]["mac-address"]),
		Driver: nmCondition(k["match"]["driver"]), Path: nmCondition(k["match"]["path"]),
		Master: cmp.Or(c["controller"], c["master"]), Parent: cmp.Or(hardwareAddress(k[kind]["parent"]), k[kind]["parent"], k[kind]["device"]),
		Off: isFalse(c["autoconnect"]), Stack: "NetworkManager", By: ByNetworkManager, Source: sourceOf(file, lines),
	}}
	if kind != "ethernet" {
		p.Kind, p.MAC, p.Driver, p.Path = kind, "", "", ""
	}
	p.priority, _ = strconv.Atoi(c["autoconnect-priority"]) // 0 if it is none
	p.keyfileIP(k["ipv4"], "24")
	p.keyfileIP(k["ipv6"], "64")
	p.settle()
	return p, true
}

// sourceOf is the line that names the interface, or the profile.
func sourceOf(file string, lines []UnitLine) string {
	for _, key := range []string{"interface-name", "mac-address", "id"} {
		for _, l := range lines {
			if l.Key == key {
				return at(file, l.Line)
			}
		}
	}
	return file
}

// keyfileMAC reads a MAC, which old versions wrote as a list of numbers.
func keyfileMAC(text string) string {
	bytes := strings.Split(strings.TrimSuffix(text, ";"), ";")
	if len(bytes) != 6 {
		return hardwareAddress(text)
	}
	for i, b := range bytes {
		n, err := strconv.ParseUint(b, 10, 8)
		if err != nil {
			return ""
		}
		bytes[i] = strconv.FormatUint(n+0x100, 16)[1:]
	}
	return hardwareAddress(strings.Join(bytes, ":"))
}

// nmPatterns are the patterns of a list in section match, as Interface has
// them. A list of which one part must and another must not hold has no such
// form; it is taken for one that nothing matches.
//
// Source: nm-settings-nmcli(5), match.interface-name; nm_wildcard_match_check.
func nmPatterns(list string) string {
	var plain, inverted []string
	for p := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune("; ,", r) }) {
		p = strings.TrimLeft(p, "|&")
		if not, ok := strings.CutPrefix(p, "!"); ok {
			inverted = append(inverted, strings.TrimPrefix(not, `\`))
			continue
		}
		plain = append(plain, strings.TrimPrefix(p, `\`))
	}
	switch {
	case len(inverted) == 0:
		return strings.Join(plain, " ")
	case len(plain) == 0:
		return "!" + strings.Join(inverted, " ")
	}
	return nothing
}

// nothing is a pattern of no name.
const nothing = "!*"

// nmCondition are the patterns of drivers or places, one of which must be that of
// the card. A list of those that must not be says nothing of the card that is
// meant.
func nmCondition(list string) string {
	if patterns := nmPatterns(list); !strings.HasPrefix(patterns, "!") {
		return patterns
	}
	return ""
}

// keyfileIP reads section ipv4 or ipv6.
func (p *nmProfile) keyfileIP(s map[string]string, length string) {
	switch method := s["method"]; {
	case method == "auto" && length == "24":
		p.ask(DHCP)
	case method == "auto" || method == "dhcp":
		p.ask(Auto)
	case method == "manual" || method == "shared":
	default: // disabled, ignore, link-local
		return
	}
	gateways := []string{s["gateway"]}
	for _, key := range inOrder(s, "address") {
		fields := strings.FieldsFunc(s[key], func(r rune) bool { return strings.ContainsRune("/;,", r) })
		if len(fields) == 0 {
			continue
		}
		if len(fields) == 1 {
			fields = append(fields, length)
		}
		p.add(prefix(fields[0], fields[1]))
		gateways = append(gateways, fields[2:min(len(fields), 3)]...)
	}
	for _, key := range inOrder(s, "route") {
		to, via, _ := strings.Cut(s[key], ",")
		via, _, _ = strings.Cut(via, ",")
		if isDefault(to) && !strings.Contains(s[key+"_options"], "table=") {
			gateways = append(gateways, via)
		}
	}
	if isTrue(s["never-default"]) || !inMainTable(strings.TrimPrefix(s["route-table"], "0")) {
		return
	}
	for _, g := range gateways {
		p.route(address(g))
	}
}

var keyNumber = regexp.MustCompile(`^(?:e?s)?(\d{0,9})$`)

// inOrder are the keys of a list, address1, address2 …, in the order of their
// numbers; old versions wrote addresses1.
func inOrder(s map[string]string, name string) []string {
	numbers := map[string]int{}
	var keys []string
	for key := range s {
		rest, ok := strings.CutPrefix(key, name)
		if g := keyNumber.FindStringSubmatch(rest); ok && g != nil {
			numbers[key], _ = strconv.Atoi(g[1]) // none comes first
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(numbers[a], numbers[b]), strings.Compare(a, b)) })
	return keys[:min(len(keys), maxAddresses)]
}
