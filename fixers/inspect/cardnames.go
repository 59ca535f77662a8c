package inspect

import (
	"regexp"
	"slices"
	"strings"
)

// hardwareName matches names that udev or the kernel gives to network cards.
// Bridges, bonds and VLANs have others.
var hardwareName = regexp.MustCompile(`^(eth\d{1,4}|en[opsx][0-9a-z]{1,12}|em\d{1,3}|p\d{1,3}p\d{1,3})$`)

// configuredNames are the names of network cards in the guest's configuration,
// each once. Only where the configuration says that it is of a card may the name
// be any; others may be of what something else makes. What a VLAN lies on has a
// name too.
func configuredNames(n Network) []string {
	var names, known []string
	for _, p := range n.Pins {
		known = append(known, p.Name)
	}
	add := func(name string, any bool) {
		if name == "" || slices.Contains(names, name) || !any && !hardwareName.MatchString(name) && !slices.Contains(known, name) {
			return
		}
		names = append(names, name)
	}
	for _, i := range n.Interfaces {
		if i.Kind == "" && !i.isPattern() {
			add(i.cardName(), i.MAC != "" || i.Stack == "NetworkManager" || i.Stack == "netplan")
		}
	}
	for _, i := range n.Interfaces {
		if !slices.ContainsFunc(n.Interfaces, func(other Interface) bool { return other.is(i.Parent) }) {
			add(i.Parent, false)
		}
	}
	return names
}

// cardName is the name without the number of an alias: eth0:1 speaks of eth0.
func (i Interface) cardName() string {
	name, _, _ := strings.Cut(i.Name, ":")
	return name
}

// is tells whether an interface goes by a name or an ID.
func (i Interface) is(ref string) bool { return ref != "" && (i.Name == ref || i.ID == ref) }

// isPattern tells a name that is one or more patterns.
func (i Interface) isPattern() bool { return strings.ContainsAny(i.Name, "*?[! ") }

// IsFor tells whether a name is what a configuration asks for.
func (i Interface) IsFor(name string) bool {
	patterns, inverted := strings.CutPrefix(i.Name, "!")
	for p := range strings.FieldsSeq(patterns) {
		if base, _, _ := strings.Cut(p, ":"); matches(base, name) {
			return !inverted
		}
	}
	return inverted
}

// anyCard tells a configuration that fits a card on KVM whatever its name is: one
// for en*, or for all names of the kernel's.
func (i Interface) anyCard() bool {
	if i.MAC != "" || i.Driver != "" || i.Path != "" {
		return false
	}
	return i.Name == "" || i.isPattern() && (i.IsFor("enp1s0") && i.IsFor("ens3") || i.IsFor("eth0"))
}
