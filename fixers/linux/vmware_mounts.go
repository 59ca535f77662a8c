package linux

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// vmwareMounts switches off the mounts of VMware's shared folders: lines of
// fstab become comments, whatever their options, and mount units are masked.
//
// Source: VMware's vmware-config-tools.pl, which writes such lines; vmhgfs-fuse(1).
var vmwareMounts = fixer.Fixer{
	Name:    "linux/vmware-mounts",
	Why:     "VMware's shared folders do not exist on KVM, so that mounting them fails, or stops the boot",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
		err := g.Edit("/etc/fstab", func(old []byte) ([]byte, error) { return withoutSharedFolders(old), nil })
		if err != nil {
			return nil, err
		}
		return nil, maskSharedFolders(g)
	},
}

// sharedFolders are the file system types of VMware's shared folders, and of
// what dragged files go through.
var sharedFolders = []string{"vmhgfs", "fuse.vmhgfs-fuse", "fuse.vmhgfs", "vmblock", "fuse.vmware-vmblock", "fuse.vmblock-fuse"}

// sharedSpec matches what is mounted where the type does not tell.
var sharedSpec = regexp.MustCompile(`^(\.host:|vmhgfs-fuse#|vmware-vmblock$)`)

func isShared(spec, kind string) bool {
	return slices.Contains(sharedFolders, kind) || sharedSpec.MatchString(spec)
}

const sharedNote = "# Off since the move to KVM, which has none of VMware's shared folders."

func withoutSharedFolders(old []byte) []byte {
	lines := splitLines(old)
	for i, line := range lines {
		e := inspect.ParseFstab([]byte(line))
		if len(e) == 1 && isShared(e[0].Spec, e[0].Type) {
			lines[i] = sharedNote + lineEnd(old) + "#" + line
		}
	}
	return joinLines(lines)
}

var unitSetting = regexp.MustCompile(`(?m)^[ \t]*(What|Type)[ \t]*=[ \t]*(\S+)`)

// maskSharedFolders masks the administrator's own units that mount shared
// folders; the tools' own is among the units of vmwareToolsInert.
func maskSharedFolders(g *guest.View) error {
	for _, suffix := range []string{".automount", ".mount"} {
		units, err := listed(g, ownUnits, suffix)
		if err != nil {
			return err
		}
		for _, unit := range units {
			shared, err := mountsShared(g, strings.TrimSuffix(unit, suffix)+".mount")
			if err != nil {
				return err
			}
			if !shared {
				continue
			}
			if err := g.Link(nothing, path.Join(ownUnits, path.Base(unit))); err != nil {
				return err
			}
		}
	}
	return nil
}

func mountsShared(g *guest.View, unit string) (bool, error) {
	exists, err := g.Exists(unit)
	if err != nil || !exists {
		return false, err
	}
	text, err := g.ReadFile(unit, guest.MaxText)
	if err != nil {
		return false, err
	}
	spec, kind := "", ""
	for _, m := range unitSetting.FindAllSubmatch(text, -1) {
		if string(m[1]) == "What" {
			spec = string(m[2])
		} else {
			kind = string(m[2])
		}
	}
	return isShared(spec, kind), nil
}
