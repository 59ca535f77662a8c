package inspect

import (
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
