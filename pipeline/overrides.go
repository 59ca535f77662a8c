package pipeline

import (
	"fmt"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
)

// Overrides are what the target's hardware has otherwise than the source's.
type Overrides struct {
	CPUs   int   `json:"cpus,omitempty"`   // as many sockets with one core; the source's if zero
	Memory int64 `json:"memory,omitempty"` // bytes; the source's if zero
	// Networks are the target's by the source's names for them, "*" for all others: a
	// network of libvirt, or bridge:NAME for a bridge of the host.
	Networks map[string]string `json:"networks,omitempty"`
}

const (
	// AllNetworks stands for those that are not named.
	AllNetworks = "*"
	bridge      = "bridge:"
	leastMemory = 64 << 20
	mostCPUs    = 4096
)

func (o Overrides) check() error {
	if o.CPUs < 0 || o.CPUs > mostCPUs {
		return fmt.Errorf("%w: %d CPUs: want 1 to %d", source.ErrBadInput, o.CPUs, mostCPUs)
	}
	if o.Memory != 0 && o.Memory < leastMemory {
		return fmt.Errorf("%w: %d bytes of memory: no guest that is known here boots with so little", source.ErrBadInput, o.Memory)
	}
	for from, to := range o.Networks {
		if from == "" || strings.TrimPrefix(to, bridge) == "" {
			return fmt.Errorf("%w: network %q=%q: want the source's network and a libvirt network, or %sNAME", source.ErrBadInput, from, to, bridge)
		}
	}
	return nil
}

// hardware is the source's with what was asked to be otherwise.
func (o Overrides) hardware(m machine.Machine) machine.Machine {
	if o.CPUs > 0 {
		m.CPUs, m.CoresPerSocket = o.CPUs, 1
	}
	if o.Memory > 0 {
		m.Memory = o.Memory
	}
	return m
}

// connect puts each NIC into the network that its own is mapped to.
func (o Overrides) connect(d *machine.Domain, m machine.Machine) {
	for i, n := range m.NICs {
		to, ok := o.network(n.Network)
		if !ok {
			continue
		}
		if name, ok := strings.CutPrefix(to, bridge); ok {
			d.NICs[i].Network, d.NICs[i].Bridge = "", name
			continue
		}
		d.NICs[i].Network = to
	}
}

func (o Overrides) network(from string) (string, bool) {
	if to, ok := o.Networks[from]; ok {
		return to, true
	}
	to, ok := o.Networks[AllNetworks]
	return to, ok
}

// unmapped are NICs that nothing was said of, where something was of others.
func (o Overrides) unmapped(m machine.Machine) (list []fixer.Concern) {
	if len(o.Networks) == 0 {
		return nil
	}
	for i, n := range m.NICs {
		if _, ok := o.network(n.Network); !ok {
			list = append(list, fixer.Concern{Level: fixer.Warning, Code: "source/network-not-mapped",
				Text: fmt.Sprintf("network card %d (%s) is in the network %q, which is mapped to none", i, n.MAC, n.Network),
				Try:  `map it too, or all others with "*"`})
		}
	}
	return list
}
