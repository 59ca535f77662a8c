package linux

import (
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/inspect"
)

var (
	netplanKey     = regexp.MustCompile(`^[ \t]*["']?([^\s"':{}]+)["']?[ \t]*:`)
	netplanMatch   = regexp.MustCompile(`(?m)(?:^|[\s{,])match[ \t]*:`)
	netplanAddress = regexp.MustCompile(`(?i)(?:^|[\s{,])macaddress[ \t]*:[ \t]*["']?([0-9a-f]{2}(?::[0-9a-f]{2}){5})`)
	netplanSetName = regexp.MustCompile(`(?:^|[\s{,])set-name[ \t]*:[ \t]*["']?([^\s"',}]+)`)
)

// netplanMentions are the network cards of a netplan file. One that it matches
// by its MAC is configured whatever its name, and with set-name it gets that
// name by a link file of netplan's own; its key is no name then. A macaddress
// outside match is an address to be set.
//
// Source: netplan-yaml(5), "Properties for physical device types".
func netplanMentions(text []byte, file string) []inspect.Interface {
	var found []inspect.Interface
	var matched []string
	for _, card := range netplanCards(text) {
		text := strings.Join(card.lines, "")
		at := netplanMatch.FindStringIndex(text)
		if at == nil {
			continue
		}
		mac := netplanAddress.FindStringSubmatch(text[at[1]:])
		if mac == nil {
			continue
		}
		name := card.key
		if set := netplanSetName.FindStringSubmatch(text); set != nil {
			name = set[1]
		}
		matched = append(matched, card.key, name)
		if !hardwareName.MatchString(name) {
			name = ""
		}
		found = append(found, inspect.Interface{Name: name, MAC: strings.ToLower(mac[1]), Stack: "netplan", Source: file})
	}
	for _, name := range namesIn(text) {
		if !slices.Contains(matched, name) {
			found = append(found, inspect.Interface{Name: name, Stack: "netplan", Source: file})
		}
	}
	return found
}

// netplanCard is one entry of the section "ethernets".
type netplanCard struct {
	key   string
	lines []string // without the key
}

// netplanCards cuts the section "ethernets" into its entries by how far their
// lines are indented.
func netplanCards(text []byte) []netplanCard {
	var cards []netplanCard
	outer, inner := -1, -1 // indentation of the section and of its entries
	for _, line := range splitLines(text) {
		bare := strings.TrimSpace(line)
		if bare == "" || strings.HasPrefix(bare, "#") {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		key := netplanKey.FindStringSubmatch(line)
		switch {
		case outer < 0 || indent <= outer:
			outer, inner = -1, -1
			if key != nil && key[1] == "ethernets" {
				outer = indent
			}
		case key != nil && (inner < 0 || indent <= inner):
			inner = indent
			cards = append(cards, netplanCard{key[1], []string{line[strings.Index(line, ":")+1:]}})
		case len(cards) > 0:
			last := &cards[len(cards)-1]
			last.lines = append(last.lines, line)
		}
	}
	return cards
}
