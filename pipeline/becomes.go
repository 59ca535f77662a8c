package pipeline

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/machine"
)

// becomes is what the maps make of the machine: of the very domain that is emitted.
func (r *Run) becomes() *machine.Becomes {
	d, m := r.domain(), r.Machine
	b := &machine.Becomes{Name: d.Name, Firmware: d.Firmware, SecureBoot: d.SecureBoot, CPUs: d.Sockets * d.Cores, Cores: d.Cores, Memory: d.Memory,
		NICs: []machine.Joins{}, Disks: []machine.GoesTo{}}
	if b.CPUs != m.CPUs {
		b.WasCPUs = m.CPUs
	}
	if b.Memory != m.Memory {
		b.WasMemory = m.Memory
	}
	for i, n := range d.NICs {
		b.NICs = append(b.NICs, machine.Joins{MAC: n.MAC, From: m.NICs[i].Network, Network: n.Network, Bridge: n.Bridge})
	}
	for i, v := range m.Disks {
		b.Disks = append(b.Disks, machine.GoesTo{From: v.Storage, Folder: r.elsewhere(i), Device: r.Options.Devices[i]})
	}
	return b
}

// retargeted warns of a target that is not the one that was reviewed with a plan.
func retargeted(reviewed, now *machine.Becomes) []fixer.Concern {
	if reviewed == nil || reflect.DeepEqual(reviewed, now) {
		return nil
	}
	was := becomesText(*reviewed)
	var other []string
	for line := range strings.Lines(becomesText(*now)) {
		if !strings.Contains(was, line) {
			other = append(other, strings.Join(strings.Fields(line), " "))
		}
	}
	return []fixer.Concern{{Level: fixer.Warning, Code: "target/not-as-reviewed",
		Text: "the target is not the one that was reviewed with the plan: " + strings.Join(other, ", "),
		Try:  "give the maps, names and hardware with which the plan was made, or review a plan that was made with these"}}
}

// becomesText is what a machine becomes, for people.
func becomesText(m machine.Becomes) string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s%s\n", what, Line(fmt.Sprintf(format, args...)))
	}
	fmt.Fprintf(&b, "\n# target: what the guest becomes\n")
	line("name", "%s", m.Name)
	line("firmware", "%s%s", m.Firmware, when(m.SecureBoot, " with secure boot"))
	line("CPUs", "%d, %d to a socket%s", m.CPUs, m.Cores, when(m.WasCPUs > 0, fmt.Sprintf("; the source has %d", m.WasCPUs)))
	line("memory", "%d MiB%s", m.Memory>>20, when(m.WasMemory > 0, fmt.Sprintf("; the source has %d MiB", m.WasMemory>>20)))
	for _, n := range m.NICs {
		line("nic", "%s goes %sto %s", n.MAC, lying(n.From), joined(n))
	}
	for i, d := range m.Disks {
		line("disk", "%d goes %sto %s", i, lying(d.From), goes(d))
	}
	return b.String()
}

func when(is bool, text string) string {
	if !is {
		return ""
	}
	return text
}

// lying is the source's name for a network or a storage.
func lying(name string) string { return when(name != "", fmt.Sprintf("from %q ", name)) }

func joined(n machine.Joins) string {
	if n.Bridge != "" {
		return fmt.Sprintf("the bridge %q", n.Bridge)
	}
	return fmt.Sprintf("libvirt's network %q", n.Network)
}

func goes(d machine.GoesTo) string {
	return cmp.Or(d.Device, d.Folder, "the migration's own folder")
}
