package pipeline

import (
	"fmt"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/machine"
)

// Blocker is ErrBlocked when a concern of the plan forbids the migration.
func (r *Run) Blocker() error {
	if r.Plan == nil {
		return nil
	}
	return Blocked(r.Plan.Concerns)
}

// Blocked is ErrBlocked if concerns forbid a migration, with what each of those says.
func Blocked(list []fixer.Concern) error {
	var texts []string
	for _, c := range list {
		if c.Level == fixer.Blocker {
			texts = append(texts, fmt.Sprintf("%s: %s (%s)", c.Code, c.Text, c.Try))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBlocked, strings.Join(texts, "; "))
}

// sourceConcerns are what the hypervisor's record says that no fixer mends.
func sourceConcerns(m machine.Machine) []fixer.Concern {
	concerns := []fixer.Concern{}
	for i, d := range m.Disks {
		concerns = append(concerns, diskConcerns(fmt.Sprintf("disk %d (%s)", i, place(d)), d)...)
	}
	for i, n := range m.NICs {
		if n.Disconnected {
			concerns = append(concerns, fixer.Concern{Level: fixer.Warning, Code: "source/nic-disconnected",
				Text: fmt.Sprintf("network card %d (%s) was not connected on VMware, and is on KVM", i, n.MAC),
				Try:  "set its link down in the libvirt XML if that was meant"})
		}
	}
	if m.TPM {
		concerns = append(concerns, fixer.Concern{Level: fixer.Warning, Code: "source/tpm",
			Text: "the machine has a virtual TPM, whose keys stay in VMware",
			Try:  "have the recovery keys at hand of what is sealed with it, such as BitLocker or LUKS"})
	}
	if len(m.LeftBehind) > 0 {
		concerns = append(concerns, fixer.Concern{Level: fixer.Warning, Code: "source/left-behind",
			Text: "devices of the VMware host stay behind: " + strings.Join(m.LeftBehind, ", "),
			Try:  "add what the guest needs of them to the libvirt XML"})
	}
	return concerns
}

func diskConcerns(what string, d machine.Disk) (concerns []fixer.Concern) {
	if d.Shared != "" {
		concerns = append(concerns, fixer.Concern{Level: fixer.Blocker, Code: "source/shared-disk",
			Text: fmt.Sprintf("other machines may write to %s (%s): a copy is no part of their cluster", what, d.Shared),
			Try:  `take the disk out of the VMX file, or set that to "none" if no other machine uses it`})
	}
	if d.Mode != "" && d.Mode != "independent-persistent" {
		concerns = append(concerns, fixer.Concern{Level: fixer.Warning, Code: "source/disk-mode",
			Text: fmt.Sprintf("what is written to %s was not kept on VMware (mode %s), and is on KVM", what, d.Mode)})
	}
	if d.Dirty {
		concerns = append(concerns, fixer.Concern{Level: fixer.Warning, Code: "source/disk-not-closed",
			Text: fmt.Sprintf("VMware did not close %s: the machine ran when it was copied, or crashed", what),
			Try:  "shut the machine down in VMware and copy it again, unless it is known to be at rest"})
	}
	return concerns
}

// place is where a disk was on VMware, by VMware's name.
func place(d machine.Disk) string {
	if d.Bus == "" {
		return d.Path
	}
	return fmt.Sprintf("%s%d:%d", d.Bus, d.Controller, d.Unit)
}
