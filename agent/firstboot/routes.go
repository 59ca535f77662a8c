package firstboot

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// routes tells what is wrong with the gateways, which are within reach of an address.
func (s *Settings) routes() error {
	if len(s.Gateways) > 0 && len(s.Addresses) == 0 {
		s.Gateways = nil
		return errors.New("counts only with an address: say address too, or leave it out")
	}
	for i, g := range s.Gateways {
		if slices.ContainsFunc(s.Gateways[:i], func(other netip.Addr) bool { return other.Is4() == g.Is4() }) {
			return errors.New("has two of one family: write one for IPv4 and one for IPv6 at most")
		}
		if slices.ContainsFunc(s.Addresses, func(p netip.Prefix) bool { return p.Addr() == g }) {
			return fmt.Errorf("%s is the appliance's own address: write the router's", g)
		}
		if !s.reaches(g) {
			return fmt.Errorf("%s is in the network of no address: write the router's address, or correct the address or its prefix length", g)
		}
	}
	return nil
}

func (s *Settings) reaches(g netip.Addr) bool {
	if g.IsLinkLocalUnicast() && g.Is6() {
		return slices.ContainsFunc(s.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() })
	}
	return slices.ContainsFunc(s.Addresses, func(p netip.Prefix) bool { return p.Contains(g) })
}
