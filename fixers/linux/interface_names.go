package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// interfaceNames keeps each network card's name, and with it its addresses: the
// name is tied to the MAC, the one thing that moves along. Rules and link files
// of the guest that ask for VMware's driver or PCI address besides stop asking.
// A guest whose names survive as they are is left alone.
//
// Source: systemd.link(5); udev(7); facts of VMware's PCI slots in slotAt.
var interfaceNames = fixer.Fixer{
	Name:    "linux/interface-names",
	Why:     "names such as ens192 come from VMware's PCI slots: on KVM the card has another name, and no address",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		more, err := mentions(g)
		if err != nil {
			return nil, err
		}
		in.Facts.Network.Interfaces = slices.Concat(in.Facts.Network.Interfaces, more)
		m := matchInterfaces(in)
		if err := m.freeRules(g); err != nil {
			return m.concerns, err
		}
		if err := m.freeLinks(g); err != nil {
			return m.concerns, err
		}
		for _, c := range m.cards {
			if c.name == "" || c.survives || c.mac == "" {
				continue
			}
			kept, err := keptByRenameDevice(g, in, c)
			if err != nil {
				return m.concerns, err
			}
			if kept {
				continue
			}
			if err := pin(g, in, c); err != nil {
				return m.concerns, err
			}
		}
		return m.concerns, nil
	},
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
func pin(g *guest.View, in fixer.Input, c card) error {
	if !validName.MatchString(c.name) || !validMAC.MatchString(c.mac) {
		return fmt.Errorf("interface %q of card %q: neither can be written into a rule", c.name, c.mac)
	}
	if hasLinks(in) {
		return g.Write(path.Join(ownLinks, linkPrefix+c.name+".link"), []byte(linkFile(c, in.Facts.OS.Systemd)))
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
func linkFile(c card, systemd int) string {
	return "# Keeps the name that this network card had on VMware.\n[Match]\n" + byMAC(c.mac, systemd) + "\n[Link]\nName=" + c.name + "\n"
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
func ruleFor(c card) string {
	return "\n# Keeps the name that this network card had on VMware.\n" +
		`SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="` + c.mac + `", ATTR{type}=="1", NAME="` + c.name + `"` + "\n"
}

// keptByRenameDevice tells that Red Hat's initscripts rename a card to the name
// in the ifcfg file that has its HWADDR.
func keptByRenameDevice(g *guest.View, in fixer.Input, c card) (bool, error) {
	for _, i := range in.Facts.Network.Interfaces {
		if i.Stack == "ifcfg" && i.Name == c.name && strings.EqualFold(i.MAC, c.mac) {
			return inAny(g, "rename_device", []string{"/usr/lib/udev", "/lib/udev"})
		}
	}
	return false, nil
}
