package linux

import (
	"context"
	"fmt"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// unifiedCmdline gives unified kernel images, whose command line is inside, an
// addon that says root= and resume= once more with names that stay: of an
// argument that is given twice the last counts, and addons come last. An image
// whose stub knows no addons, or that must be signed, is a blocker if it is the
// one that starts.
//
// Source: systemd-stub(7); Linux Documentation/admin-guide, "root=".
var unifiedCmdline = fixer.Fixer{
	Name:    "linux/unified-cmdline",
	Why:     "the command line inside a unified kernel image names devices that do not exist on KVM",
	Vital:   true,
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		var concerns []fixer.Concern
		for _, k := range in.Facts.Kernels {
			if !k.Unified {
				continue
			}
			more, err := extendCmdline(g, in, k)
			concerns = append(concerns, more...)
			if err != nil {
				return concerns, err
			}
		}
		return concerns, nil
	},
}

func extendCmdline(g *guest.View, in fixer.Input, k inspect.Kernel) ([]fixer.Concern, error) {
	arguments, unknown := renamedArguments(k, naming(in, true))
	concerns := concernsOf(unknown, !startsGuest(in, k))
	if len(arguments) == 0 {
		return concerns, nil
	}
	if !takesAddons(in, k, addonCmdline) {
		c := fixedCmdline(k, arguments)
		if startsGuest(in, k) {
			c.Level = fixer.Blocker
		}
		return append(concerns, c), nil
	}
	text := strings.Join(arguments, " ")
	return concerns, g.WriteBinary(addonPath(k, "cmdline"), addon(".cmdline", []byte(text)), "an addon that appends to the command line: "+text)
}

// renamedArguments are the arguments of a kernel's command line that must be
// said again, with their stable names.
func renamedArguments(k inspect.Kernel, name func(string) (string, bool)) (arguments []string, unknown []unknownArgument) {
	for _, m := range deviceArgument.FindAllStringSubmatch(k.Options, -1) {
		key, spec := m[1], m[2]
		if !unstable(spec) {
			continue
		}
		stable, ok := name(spec)
		if !ok {
			unknown = append(unknown, unknownArgument{k.Image, key, spec})
			continue
		}
		arguments = append(arguments, key+"="+stable)
	}
	return arguments, unknown
}

// startsGuest tells whether a kernel is, or may be, the one that starts.
func startsGuest(in fixer.Input, k inspect.Kernel) bool {
	for _, other := range in.Facts.Kernels {
		if other.Default {
			return k.Default
		}
	}
	return true
}

func fixedCmdline(k inspect.Kernel, arguments []string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/unified-image-cmdline",
		Text: fmt.Sprintf("%s of kernel %s has its command line inside, in which %s would have to be said; it takes that from outside with systemd-stub %d or later and without Secure Boot",
			k.Image, k.Version, strings.Join(arguments, " "), addonCmdline),
		Try: "name the devices by UUID in what this image is made from in the guest (/etc/kernel/cmdline), make it anew there, and plan again",
	}
}
