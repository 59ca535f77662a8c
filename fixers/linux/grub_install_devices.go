package linux

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// grubInstallDevices renames the disks on which Debian's packages install GRUB.
// They are an answer in debconf's database, /var/cache/debconf/config.dat. An
// upgrade that does not find one of them asks, or without a terminal installs
// nowhere and leaves a core that does not fit its modules: the next boot ends
// in GRUB's rescue prompt. The backup config.dat-old is left.
//
// Source: Debian's grub-pc.postinst; debconf-devel(7), DbDriver File.
var grubInstallDevices = fixer.Fixer{
	Name:    "linux/grub-install-devices",
	Why:     "a later upgrade of GRUB would be installed on disks that do not exist on KVM, and break the boot",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) (concerns []fixer.Concern, err error) {
		err = g.Edit(debconfAnswers, func(old []byte) (now []byte, err error) {
			now, concerns = renameInstallDevices(old, in)
			return now, nil
		})
		return concerns, err
	},
}

const debconfAnswers = "/var/cache/debconf/config.dat"

// installQuestions are the questions whose answer is a list of devices.
var installQuestions = []string{"grub-pc/install_devices", "grub-pc/install_devices_disks_changed", "grub-efi/install_devices"}

func renameInstallDevices(old []byte, in fixer.Input) ([]byte, []fixer.Concern) {
	var concerns []fixer.Concern
	lines := splitLines(old)
	question := ""
	for i, line := range lines {
		text := strings.TrimRight(line, "\r\n")
		if text == "" {
			question = ""
			continue
		}
		if name, ok := strings.CutPrefix(text, "Name: "); ok {
			question = name
		}
		answer, ok := strings.CutPrefix(text, "Value: ")
		if !ok || !slices.Contains(installQuestions, question) {
			continue
		}
		now, unknown := renameAnswer(answer, in)
		for _, spec := range unknown {
			concerns = append(concerns, unknownInstallDevice(question, spec))
		}
		lines[i] = "Value: " + now + line[len(text):]
	}
	return joinLines(lines), concerns
}

// renameAnswer renames the devices of a list; one that is not known stays.
func renameAnswer(answer string, in fixer.Input) (now string, unknown []string) {
	if all, ok := everyLoader(answer, in); ok {
		return all, nil
	}
	var devices []string
	seen := map[string]bool{}
	changed := false
	for spec := range strings.SplitSeq(answer, ",") {
		spec = strings.TrimSpace(spec)
		if unstable(spec) {
			name, ok := diskBySerial(in, spec)
			if ok {
				spec, changed = name, true
			} else {
				unknown = append(unknown, spec)
			}
		}
		if !seen[spec] {
			devices = append(devices, spec)
		}
		seen[spec] = true
	}
	if !changed {
		return answer, unknown
	}
	return strings.Join(devices, ", "), unknown
}

// everyLoader is the answer of a mirror: as many disks by their IDs as have GRUB are
// these, whichever is which. VMware's records hold no IDs to tell them by.
func everyLoader(answer string, in fixer.Input) (string, bool) {
	disks, seen := withGRUB(in), map[string]bool{}
	for spec := range strings.SplitSeq(answer, ",") {
		spec = strings.TrimSpace(spec)
		if !strings.HasPrefix(spec, byID) || !unstable(spec) || strings.Contains(spec, "-part") {
			return "", false
		}
		seen[spec] = true
	}
	if len(seen) != len(disks) {
		return "", false
	}
	var names []string
	for _, d := range disks {
		name, ok := serialName(in, d)
		if !ok {
			return "", false
		}
		names = append(names, name)
	}
	return strings.Join(names, ", "), true
}

func unknownInstallDevice(question, spec string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/grub-unknown-install-device",
		Text:  fmt.Sprintf("%s: the answer to %s has %s, which does not exist on KVM, and no disk of this guest could be found for it", debconfAnswers, question, spec),
		Try:   "before the next upgrade of GRUB, run dpkg-reconfigure grub-pc in the guest and choose its disk",
	}
}
