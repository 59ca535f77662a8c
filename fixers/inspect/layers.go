package inspect

import (
	"slices"
	"strings"
)

// Layer is one configuration that a card's frames may come from: the card's own,
// or that of what lies on it.
type Layer struct {
	Interface
	// Tagged tells that it does not speak plainly on the card's network: a VLAN, a
	// tunnel, or what lies on one.
	Tagged bool
	// Shared tells that it lies on other cards too.
	Shared bool
	// Contested tells that the configuration fits several cards and may be used
	// by one: which, is not known.
	Contested bool
}

// On are the configurations that apply to each of the machine's cards, the
// card's own first. Those of stacks that nothing starts are left out.
func (c *Cards) On() [][]Layer {
	own := make([][]Interface, len(c.nics))
	for n := range c.nics {
		own[n] = c.own(c.All[n])
	}
	on := make([][]Layer, len(c.nics))
	for n := range c.nics {
		for _, i := range own[n] {
			on[n] = append(on[n], Layer{Interface: i, Contested: contested(own, i)})
		}
		on[n] = c.upon(c.All[n], on[n])
	}
	for n := range on {
		for l := range on[n] {
			on[n][l].Shared = on[n][l].Kind != "" && onOthers(on, n, on[n][l])
		}
	}
	return on
}

// contested tells a profile of NetworkManager that is the first choice for
// several cards: it is used by one at a time.
func contested(own [][]Interface, i Interface) bool {
	n := 0
	for _, list := range own {
		if slices.ContainsFunc(list, func(o Interface) bool { return o.Source == i.Source }) {
			n++
		}
	}
	return n > 1 && i.By == ByNetworkManager
}

func onOthers(on [][]Layer, n int, l Layer) bool {
	for other := range on {
		if other != n && slices.ContainsFunc(on[other], func(o Layer) bool { return o.Source == l.Source && o.Name == l.Name }) {
			return true
		}
	}
	return false
}

// own are the configurations that are for a card.
func (c *Cards) own(card Card) []Interface {
	return first(slices.DeleteFunc(slices.Clone(c.used), func(i Interface) bool { return i.Kind != "" || !fits(card, i) }))
}

// used are the configurations in use, those of networkd and netplan in the order
// in which networkd tries them: by the names of the files.
//
// Source: systemd.network(5); netplan's networkd.c, for its files' names.
func (n Network) used() []Interface {
	used := slices.DeleteFunc(slices.Clone(n.Interfaces), func(i Interface) bool { return i.Idle })
	tried := func(i Interface) string {
		switch {
		case i.By != ByNetworkd:
			return ""
		case i.Stack == "netplan":
			return "10-netplan-" + i.ID + ".network"
		}
		return i.Source[strings.LastIndexByte(i.Source, '/')+1:]
	}
	slices.SortStableFunc(used, func(a, b Interface) int { return strings.Compare(tried(a), tried(b)) })
	return used
}

// first leaves of those that networkd, and those that NetworkManager would use
// for one card, or for one bond, the one that is used. NetworkManager passes
// over what it does not bring up.
func first(list []Interface) []Interface {
	var kept []Interface
	for _, i := range list {
		n := slices.IndexFunc(kept, func(k Interface) bool { return k.By == i.By && (i.Kind == "" || k.Name == i.Name) })
		switch {
		case n < 0 || i.By != ByNetworkd && i.By != ByNetworkManager:
			kept = append(kept, i)
		case i.By == ByNetworkManager && kept[n].Off && !i.Off:
			kept[n] = i
		}
	}
	return kept
}

// fits tells whether all that a configuration asks for is true of a card, on
// VMware or on KVM. What is not known of the card is taken to be so.
func fits(card Card, i Interface) bool {
	if i.MAC != "" && i.MAC != card.MAC {
		return false
	}
	if i.Path != "" && !AtPath(i.Path, card.Slot) {
		return false
	}
	if drivers := strings.Fields(i.Driver); i.Driver != "" && card.Model != "" && !anyMatches(drivers, card.Model) && !anyMatches(drivers, virtioNet) {
		return false
	}
	if i.Name == "" || card.Name != "" && i.IsFor(card.Name) {
		return true
	}
	return card.Name == "" && i.isPattern() && i.anyCard()
}

// upon adds what lies on a card: bonds and bridges that it is a port of, and
// VLANs, as long as there is more.
func (c *Cards) upon(card Card, layers []Layer) []Layer {
	under := []Layer{{Interface: Interface{Name: card.Name, ID: card.MAC}}} // what a VLAN lies on may have no configuration of its own
	under = append(under, layers...)
	seen := make([]bool, len(c.used))
	for n := 0; n < len(under); n++ {
		var over []Interface
		for at, i := range c.used {
			if i.Kind != "" && !seen[at] && (i.is(under[n].Master) || under[n].is(i.Parent)) {
				seen[at] = true
				over = append(over, i)
			}
		}
		for _, i := range first(over) {
			plain := i.Kind == "bond" || i.Kind == "bridge" || i.Kind == "team"
			l := Layer{Interface: i, Tagged: under[n].Tagged || !plain, Contested: under[n].Contested}
			under, layers = append(under, l), append(layers, l)
		}
	}
	return layers
}
