package inspect

import (
	"fmt"
	"slices"
)

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

// Lost are the configurations that are brought up at boot for names that no card
// of the machine has.
func (c *Cards) Lost() []Interface {
	rest := c.rest()
	return slices.DeleteFunc(slices.Clone(c.used), func(i Interface) bool {
		return i.Off || i.Kind != "" || !slices.Contains(rest, i.cardName())
	})
}
