package linux

import (
	"context"
	"regexp"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// deviceMap renames the disks of GRUB's device.map by the serial numbers that
// they have on KVM, and drops lines whose disk is not known: grub-install works
// out what the file leaves out, but fails on a disk that is not there.
//
// Source: GRUB manual, "Device map".
var deviceMap = fixer.Fixer{
	Name:    "linux/device-map",
	Why:     "grub-install trusts this file, whose disks do not exist on KVM",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		for _, file := range []string{"/boot/grub/device.map", "/boot/grub2/device.map"} {
			err := g.Edit(file, func(old []byte) ([]byte, error) { return remapDisks(old, in), nil })
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
}

var mapLine = regexp.MustCompile(`^\s*\([^)]+\)[ \t]+(/dev/\S+)`)

func remapDisks(old []byte, in fixer.Input) []byte {
	lines := splitLines(old)
	for i, line := range lines {
		m := mapLine.FindStringSubmatchIndex(line)
		if m == nil {
			continue
		}
		device := span{m[2], m[3]}
		if !unstable(device.of(line)) {
			continue
		}
		name, ok := diskBySerial(in, device.of(line))
		if !ok {
			lines[i] = ""
			continue
		}
		lines[i] = device.replace(line, name)
	}
	return joinLines(lines)
}

// diskBySerial finds the name on KVM of the disk or partition that an unstable
// name means. What udev makes of a VMware disk's own serial number cannot be
// told from the outside; the only disk that GRUB is installed on is meant then.
func diskBySerial(in fixer.Input, spec string) (string, bool) {
	if device, ok := in.Facts.Resolve(spec, in.Machine); ok {
		return serialName(in, device)
	}
	if !strings.HasPrefix(spec, byID) || strings.Contains(spec, "-part") {
		return "", false
	}
	disks := withGRUB(in)
	if len(disks) != 1 {
		return "", false
	}
	return serialName(in, disks[0])
}

// withGRUB are the disks that GRUB starts from.
func withGRUB(in fixer.Input) (disks []string) {
	for _, d := range in.Facts.Topology.Disks {
		if d.BootCode == "GRUB" {
			disks = append(disks, d.Name)
		}
	}
	return disks
}
