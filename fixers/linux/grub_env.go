package linux

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// renameKernelopts renames devices in the variable kernelopts of the environment
// blocks beside GRUB's configuration files.
func renameKernelopts(g *guest.View, in fixer.Input, configs []string) ([]fixer.Concern, error) {
	var concerns []fixer.Concern
	for _, config := range configs {
		if path.Base(config) != "grub.cfg" {
			continue
		}
		file := path.Join(path.Dir(config), "grubenv")
		err := g.Edit(file, func(old []byte) ([]byte, error) {
			now, more := renameEnvironment(old, file, in)
			concerns = append(concerns, more...)
			return now, nil
		})
		if err != nil {
			return concerns, err
		}
	}
	return concerns, nil
}

const kernelopts = "kernelopts="

// renameEnvironment keeps the size of an environment block: GRUB writes it where
// it stands, and takes no other size than that. What is free at its end is "#".
//
// Source: GRUB manual, "The GRUB environment block".
func renameEnvironment(old []byte, file string, in fixer.Input) ([]byte, []fixer.Concern) {
	lines := splitLines(bytes.TrimRight(old, "#"))
	var unknown []unknownArgument
	for i, line := range lines {
		value, ok := strings.CutPrefix(line, kernelopts)
		if !ok {
			continue
		}
		value, missed := renameIn(value, fmt.Sprintf("%s:%d", file, i+1), naming(in, true))
		lines[i] = kernelopts + value
		unknown = append(unknown, missed...)
	}
	concerns := concernsOf(unknown, false)
	now := joinLines(lines)
	if len(now) > len(old) {
		return old, append(concerns, fullEnvironment(file))
	}
	return append(now, bytes.Repeat([]byte("#"), len(old)-len(now))...), concerns
}

func fullEnvironment(file string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Blocker,
		Code:  "linux/grub-environment-full",
		Text:  fmt.Sprintf("%s: kernelopts has a device name that changes on KVM, and the block has no room for its UUID", file),
		Try:   "name the devices in kernelopts by UUID in the guest (grub2-editenv), and plan again",
	}
}
