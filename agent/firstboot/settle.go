package firstboot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// settling makes settings of what is said. What is wrong is told of, and left out.
type settling struct {
	Settings
	card     *card            // that is used; nil: all
	said     map[string]entry // without what is left out
	problems []string
	dhcp     bool // the network is not as it is said
}

func settle(said map[string]entry, all []card) *settling {
	t := &settling{said: said}
	for _, k := range keys {
		t.take(k)
	}
	t.network(all)
	t.trusted()
	return t
}

func (t *settling) take(k key) {
	e, ok := t.said[k.name]
	if !ok {
		return
	}
	if err := k.take(&t.Settings, e.text); err != nil {
		t.wrong(err, k.name)
		t.dhcp = t.dhcp || k.network
	}
}

// wrong leaves out keys, because of what is wrong with the first of them.
func (t *settling) wrong(err error, names ...string) {
	t.problems = append(t.problems, fmt.Sprintf("%s: %s: %v", t.origins(names), names[0], err))
	for _, n := range names {
		delete(t.said, n)
	}
}

// origins are the sources that say keys.
func (t *settling) origins(names []string) string {
	var list []string
	for _, n := range names {
		if e, ok := t.said[n]; ok && !slices.Contains(list, e.source) {
			list = append(list, e.source)
		}
	}
	return strings.Join(list, " and ")
}

// dhcpInstead is told after what was wrong with the network.
const dhcpInstead = "the network is left to DHCP on all network cards, because of what is wrong with it"

// network checks what its keys say together. One that cannot be used as it is said
// becomes DHCP's on all cards, by which the appliance is most likely reached.
func (t *settling) network(all []card) {
	if !t.dhcp {
		t.meant(all)
	}
	if !t.dhcp {
		return
	}
	t.Addresses, t.Gateways, t.NIC = nil, nil, ""
	for _, k := range keys {
		if k.network {
			delete(t.said, k.name)
		}
	}
	t.problems = append(t.problems, dhcpInstead)
}

// meant takes the gateways and the card, if they can be meant.
func (t *settling) meant(all []card) {
	if err := t.routes(); err != nil {
		t.dhcp = len(t.Addresses) > 0
		t.wrong(err, "gateway")
	}
	if t.dhcp {
		return
	}
	c, err := choose(&t.Settings, all)
	if err != nil {
		t.dhcp = true
		t.wrong(err, "nic", "address")
	}
	t.card = c
}

// trusted checks what is said of certificates and of the hub.
func (t *settling) trusted() {
	if err := t.pair(); err != nil {
		t.wrong(err, "certificate", "key")
		t.Certificate, t.Key = nil, nil
	}
	if len(t.JoinToken) == 0 && t.Hub != "" {
		t.wrong(errors.New("there is no token to join it with: say join-token too"), "hub")
		t.Hub = ""
	}
}

// sentence is what the network is made.
func (t *settling) sentence() string {
	on := "all network cards"
	if t.card != nil {
		on = fmt.Sprintf("%s (%s)", t.card.name, t.card.mac)
	}
	if len(t.Addresses) == 0 {
		return "DHCP on " + on
	}
	var list []string
	for _, a := range t.Addresses {
		list = append(list, a.String())
	}
	return strings.Join(list, " and ") + " on " + on
}
