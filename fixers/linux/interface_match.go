package linux

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

// card is one network card and the interface name that it had on VMware.
type card struct {
	mac  string // "" when not known
	name string // "" when the guest has no name for it
	nic  bool   // in the machine's record, not only in the guest's files
	// survives tells that the guest gives the name by the MAC, or by the order
	// of the cards, and will on KVM too.
	survives bool
}

// matcher finds which card has which of the names that the guest configures.
type matcher struct {
	in       fixer.Input
	cards    []card // the machine's cards first, in its order
	names    []string
	concerns []fixer.Concern
}

// matchInterfaces matches by MAC, by the place that a predictable name carries,
// by the kernel's order, and at last by elimination.
func matchInterfaces(in fixer.Input) *matcher {
	m := &matcher{in: in}
	for _, n := range in.Machine.NICs {
		m.cards = append(m.cards, card{mac: strings.ToLower(n.MAC), nic: true})
	}
	m.names = configuredNames(in.Facts.Network)
	m.byMAC()
	m.byPlace()
	m.byOrder()
	m.byElimination()
	m.unmatched()
	m.spare()
	return m
}

// hardwareName matches names that udev or the kernel gives to network cards.
// Bridges, bonds and VLANs have others.
var hardwareName = regexp.MustCompile(`^(eth\d{1,4}|en[opsx][0-9a-z]{1,12}|em\d{1,3}|p\d{1,3}p\d{1,3})$`)

// configuredNames are the names of network cards in the guest's configuration,
// each once. An alias or a VLAN (eth0:1, ens192.100) speaks of its card.
func configuredNames(n inspect.Network) []string {
	pinned := map[string]bool{}
	for _, p := range n.Pins {
		pinned[p.Name] = true
	}
	var names []string
	for _, i := range n.Interfaces {
		name := strings.FieldsFunc(i.Name+" ", func(r rune) bool { return r == ':' || r == '.' || r == ' ' })
		if len(name) == 0 || slices.Contains(names, name[0]) || !hardwareName.MatchString(name[0]) && !pinned[name[0]] {
			continue
		}
		names = append(names, name[0])
	}
	return names
}

func (m *matcher) matched(name string) bool {
	return slices.ContainsFunc(m.cards, func(c card) bool { return c.name == name })
}

// give gives a name to card i.
func (m *matcher) give(i int, name string) { m.cards[i].name = name }

// free are the machine's cards without a name.
func (m *matcher) free() []int {
	var free []int
	for i, c := range m.cards {
		if c.nic && c.name == "" {
			free = append(free, i)
		}
	}
	return free
}

// rest are the names without a card.
func (m *matcher) rest() []string {
	return slices.DeleteFunc(slices.Clone(m.names), m.matched)
}

// withMAC finds the card with a MAC; one that only the guest knows is added.
func (m *matcher) withMAC(mac string) int {
	mac = strings.ToLower(mac)
	i := slices.IndexFunc(m.cards, func(c card) bool { return c.mac == mac })
	if i < 0 {
		m.cards = append(m.cards, card{mac: mac})
		i = len(m.cards) - 1
	}
	return i
}

// foreign tells a MAC that the machine does not have although all its MACs are
// known: the configuration is of a card that is gone.
func (m *matcher) foreign(mac string) bool {
	known := len(m.in.Machine.NICs) > 0
	for _, n := range m.in.Machine.NICs {
		known = known && n.MAC != "" && !strings.EqualFold(n.MAC, mac)
	}
	return known
}

func (m *matcher) byMAC() {
	for _, p := range m.in.Facts.Network.Pins {
		if p.MAC == "" || p.Name == "" || m.matched(p.Name) || m.foreign(p.MAC) {
			continue
		}
		i := m.withMAC(p.MAC)
		m.give(i, p.Name)
		m.cards[i].survives = true // editing the pin takes away what else it asks for
	}
	for _, f := range m.in.Facts.Network.Interfaces {
		if f.MAC == "" || !matchesByMAC(f.Stack) || m.foreign(f.MAC) {
			continue
		}
		i := m.withMAC(f.MAC)
		switch {
		case f.Name == "" && m.cards[i].name == "":
			m.give(i, "*") // configured by its MAC, whatever its name
			m.cards[i].survives = true
		case m.cards[i].name == "" && slices.Contains(m.names, f.Name) && !m.matched(f.Name):
			m.give(i, f.Name)
			m.cards[i].survives = f.Stack == "netplan" // with set-name, it makes a link file itself
		}
	}
}

// matchesByMAC tells the stacks in which a MAC says which card is meant; to
// ifupdown it is an address to set.
func matchesByMAC(stack string) bool { return stack != "ifupdown" }

// byPlace matches names and pins that carry a PCI address or a slot.
func (m *matcher) byPlace() {
	for _, name := range m.rest() {
		if slot, ok := slotOfName(name); ok {
			m.atSlot(slot, name)
		}
	}
	for _, p := range m.in.Facts.Network.Pins {
		if slot, ok := slotOfAddress(p.Path); ok && !m.matched(p.Name) {
			m.atSlot(slot, p.Name)
		}
	}
}

func (m *matcher) atSlot(slot int, name string) {
	for _, i := range m.free() {
		if m.in.Machine.NICs[i].Slot == slot {
			m.give(i, name)
			return
		}
	}
}

// byOrder matches the kernel's own names, eth0, eth1 …: they count the cards in
// the order of the PCI bus.
func (m *matcher) byOrder() {
	names := slices.DeleteFunc(m.rest(), func(n string) bool { return !kernelName.MatchString(n) })
	if len(names) == 0 || m.namedByUdev() {
		return
	}
	nics := m.in.Machine.NICs
	order := kernelOrder(nics)
	for _, name := range names {
		n := decimal(kernelName.FindStringSubmatch(name)[1])
		if n >= len(order) || m.cards[order[n]].name != "" {
			continue
		}
		m.give(order[n], name)
		m.cards[order[n]].survives = true // the kernel counts on KVM too
	}
	if !slices.IsSorted(order) {
		m.concerns = append(m.concerns, otherOrder(names, order, nics))
	}
}

// namedByUdev tells that the guest has predictable names for all the cards left:
// then the kernel's are left from its installer or its template.
func (m *matcher) namedByUdev() bool {
	predictable := slices.DeleteFunc(m.rest(), func(n string) bool { return !isPredictable(n) })
	byKernel := slices.ContainsFunc(m.in.Facts.Kernels, func(k inspect.Kernel) bool {
		return k.Default && slices.Contains(strings.Fields(k.Options), "net.ifnames=0")
	})
	return len(predictable) > 0 && len(predictable) >= len(m.free()) && !byKernel
}

func isPredictable(name string) bool {
	_, ok := slotOfName(name)
	return ok
}

func otherOrder(names []string, order []int, nics []machine.NIC) fixer.Concern {
	var macs []string
	for _, i := range order {
		macs = append(macs, nics[i].MAC)
	}
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/interface-order",
		Text:  fmt.Sprintf("%s are the kernel's names, given in the order of VMware's PCI bus, which is not the order of the machine's record", strings.Join(names, ", ")),
		Try:   "put the network cards into this order on KVM: " + strings.Join(macs, ", "),
	}
}

// byElimination matches the only name left with the only card left.
func (m *matcher) byElimination() {
	names, free := m.rest(), m.free()
	if m.namedByUdev() {
		names = slices.DeleteFunc(names, kernelName.MatchString)
	}
	if len(names) != 1 || len(free) != 1 {
		return
	}
	nic := m.in.Machine.NICs[free[0]]
	if slot, ok := slotOfName(names[0]); ok && nic.Slot > 0 {
		m.concerns = append(m.concerns, fixer.Concern{
			Level: fixer.Info,
			Code:  "linux/interface-by-elimination",
			Text:  fmt.Sprintf("%s says slot %d, the card %s is in slot %d; it is the only one left and gets the name", names[0], slot, nic.MAC, nic.Slot),
			Try:   "check that this card is meant",
		})
	}
	m.give(free[0], names[0])
}

// unmatched says which names have no card.
func (m *matcher) unmatched() {
	for _, name := range m.rest() {
		if m.idle(name) {
			continue
		}
		if len(m.in.Machine.NICs) > 0 && len(m.free()) == 0 {
			m.concerns = append(m.concerns, fixer.Concern{
				Level: fixer.Warning,
				Code:  "linux/interface-without-nic",
				Text:  fmt.Sprintf("%s configures %s, and the machine has no network card for it", m.source(name), name),
				Try:   "add the card to the machine, or remove the configuration if it is of a card that is gone",
			})
			continue
		}
		if kernelName.MatchString(name) && len(m.in.Machine.NICs) == 0 {
			continue // nothing is known of the cards; the kernel counts on KVM too
		}
		m.concerns = append(m.concerns, unknownMAC(m.source(name), name))
	}
	for i, c := range m.cards {
		if c.name != "" && c.mac == "" && !c.survives {
			m.concerns = append(m.concerns, unknownMAC(m.source(c.name), c.name))
			m.cards[i].survives = true // nothing can be written for it
		}
	}
}

// idle tells a name that only stacks configure which the guest does not start.
func (m *matcher) idle(name string) bool {
	idle := func(i inspect.Interface) bool {
		return slices.ContainsFunc(m.in.Facts.Network.Idle, func(f inspect.Found) bool { return f.Value == i.Stack })
	}
	return !slices.ContainsFunc(m.in.Facts.Network.Interfaces, func(i inspect.Interface) bool {
		return strings.HasPrefix(i.Name, name) && !idle(i)
	})
}

func unknownMAC(source, name string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/interface-unknown-mac",
		Text:  fmt.Sprintf("%s configures %s, and it is not known which network card that is: its name changes on KVM and its addresses are lost", source, name),
		Try:   "give the machine's record with the MAC of each card (a VMX file, or vCenter), or pin the name to its MAC in the guest",
	}
}

// source is where a name is configured.
func (m *matcher) source(name string) string {
	for _, i := range m.in.Facts.Network.Interfaces {
		if strings.HasPrefix(i.Name, name) {
			return i.Source
		}
	}
	for _, p := range m.in.Facts.Network.Pins {
		if p.Name == name {
			return p.Source
		}
	}
	return "the guest"
}

// spare are cards that no configuration names. Where another card was named by
// its slot, this one was too: bridges, firewalls and containers may know it.
func (m *matcher) spare() {
	bySlot := slices.ContainsFunc(m.cards, func(c card) bool { return slotName.MatchString(c.name) })
	for _, i := range m.free() {
		nic := m.in.Machine.NICs[i]
		if name := fmt.Sprintf("ens%d", nic.Slot); bySlot && nic.Slot > 0 && nic.MAC != "" && !m.matched(name) {
			m.give(i, name)
			continue
		}
		if m.anyName() {
			continue
		}
		m.concerns = append(m.concerns, fixer.Concern{
			Level: fixer.Info,
			Code:  "linux/nic-without-interface",
			Text:  fmt.Sprintf("no configuration was found for the network card %s", cmp.Or(nic.MAC, fmt.Sprint(i))),
			Try:   "if the guest used it, check its configuration after the first boot",
		})
	}
}

// anyName tells configuration for whatever card there is: "en*".
func (m *matcher) anyName() bool {
	return slices.ContainsFunc(m.in.Facts.Network.Interfaces, func(i inspect.Interface) bool {
		return i.MAC == "" && (i.Name == "" || strings.ContainsAny(i.Name, "*?["))
	})
}
