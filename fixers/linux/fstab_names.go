package linux

import (
	"context"
	"fmt"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// fstabNames replaces unstable device names in /etc/fstab, swap space included,
// by UUIDs: the disk behind VMware's controller path is not at that path under
// virtio. Only the first field of a line changes; a device that inspection did
// not find is left and becomes a concern.
//
// Source: fstab(5); systemd-fstab-generator(8).
var fstabNames = fixer.Fixer{
	Name:    "linux/fstab-names",
	Why:     "names made from VMware's controllers and disks do not exist on KVM, so the boot stops in an emergency shell",
	Vital:   true,
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) (concerns []fixer.Concern, err error) {
		err = g.Edit("/etc/fstab", func(old []byte) (now []byte, err error) {
			now, concerns = renameFstab(old, in)
			return now, nil
		})
		return concerns, err
	},
}

func renameFstab(old []byte, in fixer.Input) ([]byte, []fixer.Concern) {
	var concerns []fixer.Concern
	lines := splitLines(old)
	for _, e := range inspect.ParseFstab(old) {
		if e.Line > len(lines) || isOptical(e) {
			continue
		}
		where := fmt.Sprintf("/etc/fstab:%d", e.Line)
		concerns = append(concerns, unstableOptions(e, where)...)
		parts := fields(lines[e.Line-1])
		if len(parts) == 0 || !unstable(e.Spec) {
			continue
		}
		name, ok := stableName(in, e.Spec)
		if !ok {
			concerns = append(concerns, unknownMount(e, where))
			continue
		}
		if strings.HasPrefix(name, byVirtioSerial) {
			concerns = append(concerns, bySerial(where, e.Spec, name))
		}
		lines[e.Line-1] = parts[0].replace(lines[e.Line-1], name)
	}
	return joinLines(lines), concerns
}

// isOptical tells a CD-ROM drive with a hard disk's name (/dev/hdc): a missing
// disc is expected.
func isOptical(e inspect.FstabEntry) bool {
	return strings.Contains(e.Type, "iso9660") || strings.Contains(e.Type, "udf")
}

// unknownMount is a blocker where the guest would not come up: the boot waits
// for every file system that is neither optional nor swap space, and stops in an
// emergency shell without it.
//
// Source: systemd.mount(5), nofail; initscripts' mountall.
func unknownMount(e inspect.FstabEntry, where string) fixer.Concern {
	c := fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/fstab-unknown-device",
		Text:  fmt.Sprintf("%s: %s for %s is a name that changes on KVM, and no file system of this guest could be found for it", where, e.Spec, e.Path),
		Try:   "name it by UUID in the guest, or add the disk that it is on, and plan again",
	}
	optional := e.Has("nofail") || e.Has("noauto")
	if !optional && e.Path != "none" && e.Type != "swap" {
		c.Level = fixer.Blocker
		c.Text += "; without nofail the boot stops in an emergency shell"
	}
	return c
}

// unstableOptions warns of devices named in the options: logdev= of XFS,
// x-systemd.requires= and their like. Only the first field is edited.
func unstableOptions(e inspect.FstabEntry, where string) []fixer.Concern {
	for o := range strings.SplitSeq(e.Options, ",") {
		_, value, _ := strings.Cut(o, "=")
		if !unstable(value) {
			continue
		}
		return []fixer.Concern{{
			Level: fixer.Warning,
			Code:  "linux/fstab-unstable-option",
			Text:  fmt.Sprintf("%s: the option %s has a device name that changes on KVM", where, o),
			Try:   "name the device in this option by its link under /dev/disk/by-uuid or /dev/disk/by-partuuid",
		}}
	}
	return nil
}
