package linux

import (
	"cmp"
	"fmt"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/inspect"
)

// doubt is what the operator is told of one.
type doubt struct {
	level fixer.Level
	code  string
	text  func(inspect.Doubt) string
	try   func(inspect.Doubt) string
}

func say(text string) func(inspect.Doubt) string {
	return func(inspect.Doubt) string { return text }
}

const aboutMACs = "give the machine's record with the MAC of each card (a VMX file, or vCenter), or pin the name to its MAC in the guest"

// doubts are what to tell of each kind of doubt.
var doubts = map[inspect.DoubtKind]doubt{
	inspect.UnknownCard: {fixer.Warning, "linux/interface-unknown-mac", func(d inspect.Doubt) string {
		return fmt.Sprintf("%s configures %s, and it is not known which network card that is: its name changes on KVM and its addresses are lost", d.Source, d.Name)
	}, say(aboutMACs)},
	inspect.WithoutCard: {fixer.Warning, "linux/interface-without-nic", func(d inspect.Doubt) string {
		return fmt.Sprintf("%s configures %s, and the machine has no network card for it", d.Source, d.Name)
	}, say("add the card to the machine, or remove the configuration if it is of a card that is gone")},
	inspect.OtherPlace: {fixer.Warning, "linux/interface-in-another-slot", func(d inspect.Doubt) string {
		return fmt.Sprintf("%s configures %s, which is not the name of %s: the guest had no network there on VMware, and gets none", d.Source, d.Name, places(d.Cards))
	}, say("if the guest is meant to have a network there, name the card in the guest's configuration, or put it into the slot of that name (ethernetN.pciSlotNumber), and migrate again")},
	inspect.ByElimination: {fixer.Info, "linux/interface-by-elimination", func(d inspect.Doubt) string {
		return fmt.Sprintf("%s is not the name that follows from the place of %s; it is the only one left and gets the name", d.Name, places(d.Cards))
	}, say("check that this card is meant")},
	inspect.OtherOrder: {fixer.Warning, "linux/interface-order", func(d inspect.Doubt) string {
		return fmt.Sprintf("%s are the kernel's names, given in the order of VMware's PCI bus, which is not the order of the machine's record", strings.Join(d.Names, ", "))
	}, func(d inspect.Doubt) string {
		var macs []string
		for _, c := range d.Cards {
			macs = append(macs, c.MAC)
		}
		return "put the network cards into this order on KVM: " + strings.Join(macs, ", ")
	}},
	inspect.NotConfigured: {fixer.Info, "linux/nic-without-interface", func(d inspect.Doubt) string {
		return fmt.Sprintf("no configuration was found for the network card %s", cmp.Or(d.Cards[0].MAC, d.Name))
	}, say("if the guest used it, check its configuration after the first boot")},
}

// places are cards with the slots that they are in.
func places(cards []inspect.Card) string {
	var all []string
	for _, c := range cards {
		all = append(all, fmt.Sprintf("the network card %s in slot %d", c.MAC, c.Slot))
	}
	return strings.Join(all, " or ")
}

// tell makes a concern of a doubt.
func tell(d inspect.Doubt) fixer.Concern {
	about := doubts[d.Kind]
	return fixer.Concern{Level: about.level, Code: about.code, Text: about.text(d), Try: about.try(d)}
}

func unknownMAC(source, name string) fixer.Concern {
	return tell(inspect.Doubt{Kind: inspect.UnknownCard, Source: source, Name: name})
}
