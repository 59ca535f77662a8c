package linux

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

const (
	nmProfiles = "/etc/NetworkManager/system-connections"
	ifcfgFiles = "/etc/sysconfig/network-scripts"
)

// backup matches files that no stack reads. Source: Red Hat's initscripts,
// network-functions, __sed_discard_ignored_files.
var backup = regexp.MustCompile(`(~|\.(bak|old|orig|save|rpmnew|rpmorig|rpmsave|dpkg-\w+|swp))$`)

// editEach edits the regular files of a folder whose names a pattern matches, but
// for backups.
func editEach(g *guest.View, dir, pattern string, edit func(old []byte, file string) []byte) error {
	files, err := listed(g, dir, "")
	if err != nil {
		return err
	}
	for _, file := range files {
		if ok, err := path.Match(pattern, path.Base(file)); err != nil || !ok || backup.MatchString(file) {
			continue
		}
		if info, err := g.Stat(file); err != nil || !info.Mode.IsRegular() {
			continue // a link that leads nowhere, a folder
		}
		if err := g.Edit(file, func(old []byte) ([]byte, error) { return edit(old, file), nil }); err != nil {
			return err
		}
	}
	return nil
}

// freeProfiles makes NetworkManager's profiles that match by place or by VMware's
// driver match by MAC.
func (n *cardNaming) freeProfiles(g *guest.View) error {
	return editEach(g, nmProfiles, "*", n.freeProfile)
}

// profile is what says which card one of NetworkManager's profiles is for, by
// the numbers of its lines.
type profile struct {
	bound    []int // that hold a driver or a place
	path     string
	drivers  []string
	named    bool // an interface name or a MAC is asked for
	ethernet int  // the line of the section's head; -1 for none
	card     bool // the profile is for network cards
}

func (p profile) what() string {
	return strings.Join(slices.DeleteFunc([]string{p.path, strings.Join(p.drivers, " ")}, func(s string) bool { return s == "" }), " and ")
}

// byHardware warns of a configuration that finds its card by what only VMware's
// has, where that is not one card.
func byHardware(where, what string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/interface-by-hardware",
		Text:  fmt.Sprintf("%s finds its network card by %s, which no card has on KVM, and on VMware not exactly one: its addresses are lost", where, what),
		Try:   "match the card by its MAC in the guest, and migrate again",
	}
}

// Source: nm-settings-keyfile(5); nm-settings-nmcli(5), section match.
func parseProfile(text []byte) profile {
	p := profile{ethernet: -1, card: true}
	for i, line := range splitLines(text) {
		if g := keyfileSection.FindStringSubmatch(line); g != nil && (g[1] == "ethernet" || g[1] == "802-3-ethernet") {
			p.ethernet = i
		}
	}
	for _, l := range inspect.ParseKeyfile(text) {
		switch l.Section + "." + l.Key {
		case "connection.type":
			p.card = l.Value == "ethernet" || l.Value == "802-3-ethernet"
		case "connection.interface-name", "ethernet.mac-address", "802-3-ethernet.mac-address":
			p.named = p.named || l.Value != ""
		case "match.path":
			if plain := plainPatterns(l.Value); onlyPlaces(plain) {
				p.path, p.bound = strings.Join(plain, " "), append(p.bound, l.Line-1)
			}
		case "match.driver":
			if plain := plainPatterns(l.Value); inspect.VMwareOnly(plain) {
				p.drivers, p.bound = plain, append(p.bound, l.Line-1)
			}
		}
	}
	return p
}

var keyfileSection = regexp.MustCompile(`^\s*\[([^\]]*)\]\s*$`)

// plainPatterns are the patterns of a list of which one must be true; none where
// others must not be: those are true on KVM too.
//
// Source: nm-settings-nmcli(5), match.interface-name.
func plainPatterns(list string) []string {
	patterns := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune("; ,", r) })
	for i, p := range patterns {
		if patterns[i] = strings.TrimLeft(p, `|&\`); strings.HasPrefix(patterns[i], "!") {
			return nil
		}
	}
	return patterns
}

var pciPlace = regexp.MustCompile(`^(pci-)?[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// onlyPlaces tells patterns that are PCI addresses in full.
func onlyPlaces(patterns []string) bool {
	return len(patterns) > 0 && !slices.ContainsFunc(patterns, func(p string) bool { return !pciPlace.MatchString(p) })
}

func (n *cardNaming) freeProfile(old []byte, file string) []byte {
	p := parseProfile(old)
	if len(p.bound) == 0 || !p.card {
		return old
	}
	lines, end := splitLines(old), lineEnd(old)
	instead := ""
	if !p.named {
		mac := n.meant("", p.path, p.drivers)
		if mac == "" {
			n.concerns = append(n.concerns, byHardware(file, p.what()))
			return old
		}
		instead = "mac-address=" + strings.ToUpper(mac) + end
	}
	for _, i := range p.bound {
		lines[i] = ""
	}
	switch {
	case instead == "":
	case p.ethernet >= 0:
		lines[p.ethernet] = ended(lines[p.ethernet], end) + instead
	default:
		lines = append(lines, end+"[ethernet]"+end+instead)
		lines[len(lines)-2] = ended(lines[len(lines)-2], end)
	}
	return joinLines(lines)
}

// ended is a line that ends; nothing stays nothing.
func ended(line, end string) string {
	if line == "" || strings.HasSuffix(line, "\n") {
		return line
	}
	return line + end
}

// freeIfcfg does the same for the profiles that NetworkManager keeps in Red Hat's
// files.
//
// Source: nm-settings-ifcfg-rh(5), MATCH_PATH and MATCH_DRIVER.
func (n *cardNaming) freeIfcfg(g *guest.View) error {
	return editEach(g, ifcfgFiles, "ifcfg-*", n.freeIfcfgFile)
}

func (n *cardNaming) freeIfcfgFile(old []byte, file string) []byte {
	var p profile
	for _, v := range inspect.ParseSysconfig(old) {
		switch v.Name {
		case "DEVICE", "HWADDR":
			p.named = p.named || v.Value != ""
		case "MATCH_PATH":
			if plain := plainPatterns(v.Value); onlyPlaces(plain) {
				p.path, p.bound = strings.Join(plain, " "), append(p.bound, v.Line-1)
			}
		case "MATCH_DRIVER":
			if plain := plainPatterns(v.Value); inspect.VMwareOnly(plain) {
				p.drivers, p.bound = plain, append(p.bound, v.Line-1)
			}
		}
	}
	if len(p.bound) == 0 {
		return old
	}
	lines, instead := splitLines(old), ""
	if !p.named {
		mac := n.meant("", p.path, p.drivers)
		if mac == "" {
			n.concerns = append(n.concerns, byHardware(file, p.what()))
			return old
		}
		instead = fmt.Sprintf("HWADDR=%s%s", strings.ToUpper(mac), lineEnd(old))
	}
	for k, i := range p.bound {
		lines[i] = ""
		if k == 0 {
			lines[i] = instead
		}
	}
	return joinLines(lines)
}
