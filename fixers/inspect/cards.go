package inspect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// Card is one network card, and the interface name that it had on VMware.
type Card struct {
	MAC   string // lower case; "" when not known
	Model string // VMware's virtualDev; "" when not known
	Slot  int    // VMware's pciSlotNumber; 0 when not known
	Name  string // "" when the guest has none for it
	// Kept tells that the guest gives the name by the MAC, or by the order of
	// the cards, and will on KVM too.
	Kept bool
	// Found tells that a configuration finds the card without a name.
	Found bool
}

// Cards tells which network card has which of the names that a guest
// configures, and which configuration is for it.
type Cards struct {
	All    []Card // the machine's, in its order, and then those that only the guest's files know
	Doubts []Doubt
	facts  Facts
	nics   []machine.NIC
	names  []string
	used   []Interface // what is not idle
}

// Doubt is something about a card or a name that could not be told, or that the
// operator should know.
type Doubt struct {
	Kind   DoubtKind
	Name   string   // the interface's, or what the guest has for one
	Source string   // where the guest configures it
	Cards  []Card   // that it is about
	Names  []string // of OtherOrder: all that the kernel gives
}

// DoubtKind says what is in doubt.
type DoubtKind int

// What can be in doubt.
const (
	UnknownCard   DoubtKind = iota // the guest configures a name, and which card has it is not known
	WithoutCard                    // the guest configures a name, and no card is left for it
	OtherPlace                     // it says another place than the cards that are left are in
	ByElimination                  // the last name was given to the last card, though their places differ
	OtherOrder                     // the kernel counts the cards in another order than the record
	NotConfigured                  // no configuration is for the card
)

// Cards matches names and cards by MAC, by the place that a predictable name
// carries, by driver, by the kernel's order, and at last by elimination.
func (f Facts) Cards(m machine.Machine) *Cards {
	c := &Cards{facts: f, nics: m.NICs, used: f.Network.used()}
	for _, n := range m.NICs {
		c.All = append(c.All, Card{MAC: strings.ToLower(n.MAC), Model: n.Model, Slot: n.Slot})
	}
	c.names = configuredNames(f.Network)
	c.byMAC()
	c.byPlace()
	c.byDriver()
	c.byOrder()
	c.byElimination()
	c.unmatched()
	c.spare()
	return c
}

// MACOf is the MAC of the card that has a name; "" when it is not known.
func (c *Cards) MACOf(name string) string {
	for _, card := range c.All {
		if card.Name == name && name != "" {
			return card.MAC
		}
	}
	return ""
}

// Lost are the configurations that are brought up at boot for names that no card
// of the machine has.
func (c *Cards) Lost() []Interface {
	rest := c.rest()
	return slices.DeleteFunc(slices.Clone(c.used), func(i Interface) bool {
		return i.Off || i.Kind != "" || !slices.Contains(rest, i.cardName())
	})
}

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

func (c *Cards) matched(name string) bool {
	return slices.ContainsFunc(c.All, func(card Card) bool { return card.Name == name })
}

// free are the machine's cards that nothing was found for.
func (c *Cards) free() []int {
	var free []int
	for i := range c.nics {
		if c.All[i].Name == "" && !c.All[i].Found {
			free = append(free, i)
		}
	}
	return free
}

// rest are the names without a card.
func (c *Cards) rest() []string {
	return slices.DeleteFunc(slices.Clone(c.names), c.matched)
}

// withMAC finds the card with a MAC; one that only the guest knows is added.
func (c *Cards) withMAC(mac string) *Card {
	i := slices.IndexFunc(c.All, func(card Card) bool { return card.MAC == mac })
	if i < 0 {
		c.All = append(c.All, Card{MAC: mac})
		i = len(c.All) - 1
	}
	return &c.All[i]
}

// foreign tells a MAC that the machine does not have although all its MACs are
// known: the configuration is of a card that is gone.
func (c *Cards) foreign(mac string) bool {
	for _, n := range c.nics {
		if n.MAC == "" || strings.EqualFold(n.MAC, mac) {
			return false
		}
	}
	return len(c.nics) > 0
}

func (c *Cards) byMAC() {
	for _, p := range c.facts.Network.Pins {
		if p.MAC == "" || p.Name == "" || c.matched(p.Name) || c.foreign(p.MAC) {
			continue
		}
		card := c.withMAC(p.MAC)
		card.Name, card.Kept = p.Name, true // editing the pin takes away what else it asks for
	}
	for _, i := range c.facts.Network.Interfaces {
		if i.MAC == "" || i.Kind != "" || c.foreign(i.MAC) {
			continue
		}
		card := c.withMAC(i.MAC)
		card.Found = true
		if card.Name == "" && slices.Contains(c.names, i.Name) && !c.matched(i.Name) {
			card.Name = i.Name
		}
	}
	for _, name := range c.rest() { // the name that udev makes of a MAC
		for i := range c.All {
			if mac := strings.ReplaceAll(c.All[i].MAC, ":", ""); mac != "" && name == "enx"+mac && c.All[i].Name == "" {
				c.All[i].Name = name
			}
		}
	}
}

// byPlace matches what carries a PCI address or a slot.
func (c *Cards) byPlace() {
	for _, name := range c.rest() {
		if slot, ok := slotOfName(name); ok {
			c.atSlot(slot, name)
		}
	}
	for _, p := range c.facts.Network.Pins {
		if slot, ok := slotOfAddress(p.Path); ok && !c.matched(p.Name) {
			c.atSlot(slot, p.Name)
		}
	}
	for _, i := range c.facts.Network.Interfaces {
		for n, nic := range c.nics {
			c.All[n].Found = c.All[n].Found || nic.Slot > 0 && AtPath(i.Path, nic.Slot)
		}
	}
}

func (c *Cards) atSlot(slot int, name string) {
	for i, n := range c.nics {
		if n.Slot == slot && c.All[i].Name == "" {
			c.All[i].Name = name
			return
		}
	}
}

// byDriver matches names that are given to whatever a driver drives, if that is
// one card.
func (c *Cards) byDriver() {
	for _, p := range c.facts.Network.Pins {
		if p.Driver == "" || p.MAC != "" || p.Path != "" || c.matched(p.Name) {
			continue
		}
		drivers := strings.FieldsFunc(p.Driver, func(r rune) bool { return r == ' ' || r == '|' })
		if driven := c.DrivenBy(drivers); len(driven) == 1 && c.All[driven[0]].Name == "" {
			c.All[driven[0]].Name, c.All[driven[0]].Kept = p.Name, anyMatches(drivers, virtioNet)
		}
	}
	for _, i := range c.facts.Network.Interfaces {
		if i.Driver == "" || i.Name != "" {
			continue
		}
		for _, n := range c.DrivenBy(strings.Fields(i.Driver)) {
			c.All[n].Found = true
		}
	}
}

// DrivenBy are the numbers of the machine's cards that drivers may drive on
// VMware; one whose model is not known may be driven by any of VMware's.
func (c *Cards) DrivenBy(patterns []string) []int {
	var driven []int
	for i, n := range c.nics {
		models := nicDrivers
		if n.Model != "" {
			models = []string{n.Model}
		}
		if slices.ContainsFunc(models, func(m string) bool { return anyMatches(patterns, m) }) {
			driven = append(driven, i)
		}
	}
	return driven
}

// nicDrivers are those of the network cards that VMware offers; virtioNet is that
// of KVM's.
var nicDrivers = []string{"vmxnet3", "vmxnet", "e1000", "e1000e", "pcnet32", "vlance"}

const virtioNet = "virtio_net"

// VMwareOnly tells patterns of drivers that match a card on VMware and none on
// KVM. Those of bridges, tunnels and containers match on both what they did.
func VMwareOnly(patterns []string) bool {
	return slices.ContainsFunc(nicDrivers, func(d string) bool { return anyMatches(patterns, d) }) && !anyMatches(patterns, virtioNet)
}

func anyMatches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// byOrder matches the kernel's own names, eth0, eth1 …: they count the cards in
// the order of the PCI bus.
func (c *Cards) byOrder() {
	names := slices.DeleteFunc(c.rest(), func(n string) bool { return !kernelName.MatchString(n) })
	if len(names) == 0 || c.namedByUdev() {
		return
	}
	order := kernelOrder(c.nics)
	for _, name := range names {
		n := decimal(kernelName.FindStringSubmatch(name)[1])
		if n >= len(order) || c.All[order[n]].Name != "" {
			continue
		}
		c.All[order[n]].Name = name
		c.All[order[n]].Kept = true // the kernel counts on KVM too
	}
	if !slices.IsSorted(order) {
		d := Doubt{Kind: OtherOrder, Names: names}
		for _, i := range order {
			d.Cards = append(d.Cards, c.All[i])
		}
		c.Doubts = append(c.Doubts, d)
	}
}

// namedByUdev tells that the guest has predictable names for all the cards left:
// then the kernel's are left from its installer or its template.
func (c *Cards) namedByUdev() bool {
	predictable := slices.DeleteFunc(c.rest(), func(n string) bool {
		_, ok := slotOfName(n)
		return !ok
	})
	byKernel := slices.ContainsFunc(c.facts.Kernels, func(k Kernel) bool {
		return k.Default && slices.Contains(strings.Fields(k.Options), "net.ifnames=0")
	})
	return len(predictable) > 0 && len(predictable) >= len(c.free()) && !byKernel
}

// byElimination matches the only name left with the only card left. A name that
// says another place was never this card's: its configuration did nothing.
func (c *Cards) byElimination() {
	free, byUdev := c.free(), c.namedByUdev()
	names := slices.DeleteFunc(c.rest(), func(n string) bool {
		return byUdev && kernelName.MatchString(n) || c.elsewhere(n) || c.ofAnother(n)
	})
	if len(names) != 1 || len(free) != 1 {
		return
	}
	card := &c.All[free[0]]
	if slot, ok := slotOfName(names[0]); ok && card.Slot > 0 && slot != card.Slot {
		c.Doubts = append(c.Doubts, Doubt{Kind: ByElimination, Name: names[0], Source: c.source(names[0]), Cards: []Card{*card}})
	}
	card.Name = names[0]
}

// elsewhere tells a name that says another place than every card that is left.
func (c *Cards) elsewhere(name string) bool {
	free := c.free()
	return len(free) > 0 && !slices.ContainsFunc(free, func(i int) bool { return !otherPlace(name, c.All[i].Slot) })
}

// ofAnother tells a name that the guest gives to a card that the machine does not
// have.
func (c *Cards) ofAnother(name string) bool {
	return slices.ContainsFunc(c.facts.Network.Pins, func(p Pin) bool {
		return p.Name == name && p.MAC != "" && c.foreign(p.MAC)
	})
}

// unmatched says which names have no card.
func (c *Cards) unmatched() {
	for _, name := range c.rest() {
		d := Doubt{Name: name, Source: c.source(name)}
		for _, i := range c.free() {
			d.Cards = append(d.Cards, c.All[i])
		}
		switch {
		case c.idle(name):
			continue
		case c.elsewhere(name):
			d.Kind = OtherPlace
		case len(c.nics) > 0 && len(d.Cards) == 0 || c.ofAnother(name):
			d.Kind = WithoutCard
		case kernelName.MatchString(name) && len(c.nics) == 0:
			continue // nothing is known of the cards; the kernel counts on KVM too
		}
		c.Doubts = append(c.Doubts, d)
	}
	for i, card := range c.All {
		if card.Name != "" && card.MAC == "" && !card.Kept {
			c.Doubts = append(c.Doubts, Doubt{Kind: UnknownCard, Name: card.Name, Source: c.source(card.Name)})
			c.All[i].Kept = true // nothing can be written for it
		}
	}
}

// idle tells a name that only what nothing starts configures.
func (c *Cards) idle(name string) bool {
	return !slices.ContainsFunc(c.facts.Network.Interfaces, func(i Interface) bool {
		return !i.Idle && (i.cardName() == name || i.Parent == name)
	})
}

// source is where a name is configured, in use before idle.
func (c *Cards) source(name string) string {
	for _, idle := range []bool{false, true} {
		for _, i := range c.facts.Network.Interfaces {
			if i.Idle == idle && (i.cardName() == name || i.Parent == name) {
				return i.Source
			}
		}
	}
	for _, p := range c.facts.Network.Pins {
		if p.Name == name {
			return p.Source
		}
	}
	return "the guest"
}

// spare are cards that no configuration names. Where another card was named by
// its slot, this one was too: bridges, firewalls and containers may know it. And
// where a configuration is for names like ens*, its name must stay one of them.
func (c *Cards) spare() {
	bySlot := slices.ContainsFunc(c.All, func(card Card) bool { return slotName.MatchString(card.Name) })
	for n := range c.nics {
		card := &c.All[n]
		name := nameOfSlot(card.Slot)
		switch {
		case card.Name != "":
		case card.Slot > 0 && card.MAC != "" && !c.matched(name) && (bySlot || c.patterned(name)):
			card.Name = name
		case !card.Found && !c.forAny():
			c.Doubts = append(c.Doubts, Doubt{Kind: NotConfigured, Name: fmt.Sprint(n), Cards: []Card{*card}})
		}
	}
	for _, i := range c.used {
		named := slices.ContainsFunc(c.All, func(card Card) bool { return card.Name != "" && i.IsFor(card.Name) })
		if i.Kind == "" && i.isPattern() && !i.anyCard() && !named && len(c.free()) > 0 {
			c.Doubts = append(c.Doubts, Doubt{Kind: UnknownCard, Name: i.Name, Source: i.Source})
		}
	}
}

// forAny tells whether a configuration is for whatever card there is, or whether
// it was told already that a card has none.
func (c *Cards) forAny() bool {
	return slices.ContainsFunc(c.used, func(i Interface) bool { return i.Kind == "" && i.anyCard() }) ||
		slices.ContainsFunc(c.Doubts, func(d Doubt) bool { return d.Kind == OtherPlace })
}

// patterned tells whether a configuration asks for names like this one, and not
// for any.
func (c *Cards) patterned(name string) bool {
	return slices.ContainsFunc(c.used, func(i Interface) bool {
		return i.Kind == "" && i.isPattern() && !i.anyCard() && i.IsFor(name)
	})
}
