package linux

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// resume renames the swap space that initramfs-tools resumes from. One that is
// not found becomes "none": the initrd waits half a minute or more for a resume
// device that does not exist, at each boot, and only hibernation is lost. "none"
// is safe with releases that do not know the word: they pass over a device that
// is absent. A kernel's present initrd is the business of initrdDrivers.
//
// Source: initramfs.conf(5), RESUME; initramfs-tools scripts/local-premount/resume.
var resume = fixer.Fixer{
	Name:    "linux/resume",
	Why:     "the initrd waits for a swap space whose name does not exist on KVM",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		files, err := listed(g, "/etc/initramfs-tools/conf.d", "")
		if err != nil {
			return nil, err
		}
		var concerns []fixer.Concern
		for _, file := range append(files, "/etc/initramfs-tools/initramfs.conf") {
			err := g.Edit(file, func(old []byte) ([]byte, error) {
				now, unknown := renameResume(old, in)
				for _, spec := range unknown {
					concerns = append(concerns, noResume(file, spec))
				}
				return now, nil
			})
			if err != nil {
				return concerns, err
			}
		}
		return concerns, nil
	},
}

var resumeLine = regexp.MustCompile(`^[ \t]*RESUME=["']?([^\s"'#;]+)`)

func renameResume(old []byte, in fixer.Input) (now []byte, unknown []string) {
	lines := splitLines(old)
	for i, line := range lines {
		m := resumeLine.FindStringSubmatchIndex(line)
		if m == nil {
			continue
		}
		value := span{m[2], m[3]}
		spec := value.of(line)
		if !unstable(spec) {
			continue
		}
		name, ok := stableName(in, spec)
		if !ok || strings.HasPrefix(name, byVirtioSerial) {
			name, unknown = "none", append(unknown, spec)
		}
		lines[i] = value.replace(line, name)
	}
	return joinLines(lines), unknown
}

func noResume(file, spec string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/resume-unknown-device",
		Text:  fmt.Sprintf("%s: no swap space of this guest could be found for %s; it will not resume from hibernation", file, spec),
		Try:   "to hibernate on KVM, set RESUME= to the swap space's UUID in the guest and run update-initramfs -u",
	}
}
