package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// interfaceNames keeps each network card's name, and with it its addresses: the
// name is tied to the MAC, the one thing that moves along. Rules, link files and
// configuration of the guest that ask for VMware's driver or PCI address stop
// asking, and ask for the MAC where nothing else says which card is meant. A
// guest whose names survive as they are is left alone.
//
// Source: systemd.link(5); udev(7); inspect.Cards for how cards and names are
// matched.
var interfaceNames = fixer.Fixer{
	Name:    "linux/interface-names",
	Why:     "names such as ens192 come from VMware's PCI slots: on KVM the card has another name, and no address",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		n := newCardNaming(in)
		for _, free := range []func(*guest.View) error{n.freeRules, n.freeLinks, n.freeProfiles, n.freeIfcfg, n.freeNetplan} {
			if err := free(g); err != nil {
				return n.concerns, err
			}
		}
		for _, c := range n.cards.All {
			if c.Name == "" || c.Kept || c.MAC == "" {
				continue
			}
			kept, err := keptByRenameDevice(g, in, c)
			if err != nil {
				return n.concerns, err
			}
			if kept {
				continue
			}
			if err := pin(g, in, c); err != nil {
				return n.concerns, err
			}
		}
		return n.concerns, nil
	},
}

// cardNaming is the work of naming one guest's cards.
type cardNaming struct {
	in       fixer.Input
	cards    *inspect.Cards
	concerns []fixer.Concern
}

func newCardNaming(in fixer.Input) *cardNaming {
	n := &cardNaming{in: in, cards: in.Facts.Cards(in.Machine)}
	for _, d := range n.cards.Doubts {
		n.concerns = append(n.concerns, tell(d))
	}
	return n
}

const (
	ownLinks   = "/etc/systemd/network"
	linkPrefix = "10-hyper2kvm-"
	netRules   = ownRules + "/70-persistent-net.rules"
)

// firstWithLinks is the systemd whose udev reads link files; firstPermanent is
// the one in which they can match by the permanent MAC (systemd NEWS).
const (
	firstWithLinks = 209
	firstPermanent = 245
)

var validName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,14}$`)
var validMAC = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)

// pin ties a card's name to its MAC, in the way that the guest's udev knows.
func pin(g *guest.View, in fixer.Input, c inspect.Card) error {
	if !validName.MatchString(c.Name) || !validMAC.MatchString(c.MAC) {
		return fmt.Errorf("interface %q of card %q: neither can be written into a rule", c.Name, c.MAC)
	}
	if hasLinks(in) {
		return g.Write(path.Join(ownLinks, linkPrefix+c.Name+".link"), []byte(linkFile(c, in.Facts.OS.Systemd)))
	}
	old, err := g.ReadFile(netRules, guest.MaxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rule := ruleFor(c)
	if strings.Contains(string(old), rule) {
		return nil
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		old = append(old, '\n')
	}
	return g.Write(netRules, append(old, rule...))
}

// hasLinks tells whether the guest's udev reads link files. A systemd whose
// version was not found is taken for one that does: those before are rare.
func hasLinks(in fixer.Input) bool {
	version := in.Facts.OS.Systemd
	return version >= firstWithLinks || version == 0 && in.Facts.Init.Value == "systemd"
}

// linkFile replaces 99-default.link for one card. No policy of that file is
// needed: MACAddressPolicy=persistent does nothing to a card with a MAC of its
// own, and alternative names made from the new slots could be the very names
// that other cards keep.
func linkFile(c inspect.Card, systemd int) string {
	return "# Keeps the name that this network card had on VMware.\n[Match]\n" + byMAC(c.MAC, systemd) + "\n[Link]\nName=" + c.Name + "\n"
}

// anyPCI matches ID_PATH of a card on PCI: a virtio card's begins with pci- or
// virtio-pci-, as the release of udev has it.
const anyPCI = "*pci-*"

// byMAC is what matches a card and not its VLANs, bridges and bonds, which have
// the same MAC but not as their permanent one. Before systemd could match that,
// the path keeps them out, since they have no place on a bus. Type=ether would
// not do: there udev compares it with DEVTYPE, which a card does not have.
//
// Source: systemd v219 src/libsystemd-network/network-internal.c, net_match_config.
func byMAC(mac string, systemd int) string {
	if systemd >= firstPermanent {
		return "PermanentMACAddress=" + mac + "\n"
	}
	return "MACAddress=" + mac + "\nPath=" + anyPCI + "\n"
}

// ruleFor is a rule in the form in which udev's old generator wrote them:
// DRIVERS=="?*" keeps VLANs out, which have their card's MAC but no driver.
func ruleFor(c inspect.Card) string {
	return "\n# Keeps the name that this network card had on VMware.\n" +
		`SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="` + c.MAC + `", ATTR{type}=="1", NAME="` + c.Name + `"` + "\n"
}

// keptByRenameDevice tells that Red Hat's initscripts rename a card to the name
// in the ifcfg file that has its HWADDR.
func keptByRenameDevice(g *guest.View, in fixer.Input, c inspect.Card) (bool, error) {
	for _, i := range in.Facts.Network.Interfaces {
		if i.Stack == "ifcfg" && i.Name == c.Name && strings.EqualFold(i.MAC, c.MAC) {
			return inAny(g, "rename_device", []string{"/usr/lib/udev", "/lib/udev"})
		}
	}
	return false, nil
}
