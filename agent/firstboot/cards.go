package firstboot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// card is an Ethernet card.
type card struct {
	name  string
	mac   string
	fixed bool // the MAC address is the card's own, by which it is known for good
}

// cards are the Ethernet cards of a machine: devices of its own, and no wireless ones.
//
// Source: Linux Documentation/ABI/testing/sysfs-class-net: type (ARPHRD_ETHER is 1),
// addr_assign_type (NET_ADDR_PERM is 0).
func cards(root string) []card {
	list := []card{}
	folder := filepath.Join(root, "sys/class/net")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return list
	}
	for _, e := range entries {
		of := func(name string) string {
			text, err := os.ReadFile(filepath.Join(folder, e.Name(), name))
			if err != nil {
				return ""
			}
			return strings.TrimSpace(string(text))
		}
		if of("type") == "1" && there(filepath.Join(folder, e.Name(), "device")) && !there(filepath.Join(folder, e.Name(), "phy80211")) {
			list = append(list, card{e.Name(), strings.ToLower(of("address")), of("addr_assign_type") == "0"})
		}
	}
	return list
}

func there(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// choose is the card that is meant; nil stands for all of them. Static addresses are
// those of one card. Nothing can be wrong where all is nil: the cards are not known.
func choose(s *Settings, all []card) (*card, error) {
	if all == nil {
		return nil, nil
	}
	for i, c := range all {
		if s.NIC == c.name || s.NIC != "" && s.NIC == c.mac {
			return &all[i], nil
		}
	}
	switch {
	case s.NIC != "" && len(all) == 0:
		return nil, fmt.Errorf("there is no network card %s, and no other: add one, or see dmesg", s.NIC)
	case s.NIC != "":
		return nil, fmt.Errorf("there is no network card %s: write one of %s", s.NIC, described(all))
	case len(s.Addresses) == 0 || len(all) == 0:
		return nil, nil
	case len(all) > 1:
		return nil, fmt.Errorf("there are %d network cards, and an address is that of one: write one of %s", len(all), described(all))
	}
	return &all[0], nil
}

func described(all []card) string {
	var list []string
	for _, c := range all {
		list = append(list, fmt.Sprintf("%s (%s)", c.mac, c.name))
	}
	return strings.Join(list, ", ")
}
