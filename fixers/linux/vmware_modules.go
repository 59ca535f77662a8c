package linux

import (
	"context"
	"regexp"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// vmwareModules takes VMware's drivers off the lists of modules that are loaded
// at each boot, where one that finds no device makes systemd-modules-load fail;
// and switches off settings that keep virtio's drivers from loading. Options and
// aliases of VMware's drivers do nothing without them and stay.
//
// Source: modules-load.d(5), modules(5), modprobe.d(5); the drivers that VMware
// Tools and Linux have for VMware's devices.
var vmwareModules = fixer.Fixer{
	Name:    "linux/vmware-modules",
	Why:     "VMware's drivers find no device on KVM, and loading them at boot fails",
	Vital:   true,
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
		lists, err := listed(g, "/etc/modules-load.d", ".conf")
		if err != nil {
			return nil, err
		}
		if err := commentOut(g, append(lists, "/etc/modules"), vmwareModule, modulesNote); err != nil {
			return nil, err
		}
		settings, err := listed(g, "/etc/modprobe.d", "")
		if err != nil {
			return nil, err
		}
		return nil, commentOut(g, append(settings, "/etc/modprobe.conf", "/etc/modprobe.conf.local"), againstVirtio, virtioNote)
	},
}

const (
	modulesNote = "# Off since the move to KVM, which has none of VMware's devices."
	virtioNote  = "# Off since the move to KVM, whose devices need it."
)

var (
	vmwareModule = regexp.MustCompile(`^\s*(vmhgfs|vmblock|vmci|vmw_vmci|vmw_vsock_vmci_transport|vsock_vmci|vmmemctl|vmw_balloon|vmsync|vmxnet3?|pvscsi|vmw_pvscsi|vmwgfx)\s*(#.*)?$`)
	// againstVirtio matches what keeps a driver of virtio from loading, or a
	// command that is run in its place.
	againstVirtio = regexp.MustCompile(`^\s*(blacklist\s+virtio\w*\s*$|install\s+virtio\w*\s+(/usr)?/?(bin/)?(true|false)\b)`)
)

// commentOut makes comments of the lines that a pattern matches, with a note.
func commentOut(g *guest.View, files []string, pattern *regexp.Regexp, note string) error {
	for _, file := range files {
		err := g.Edit(file, func(old []byte) ([]byte, error) {
			lines := splitLines(old)
			for i, line := range lines {
				if pattern.MatchString(strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "-", "_")) {
					lines[i] = note + lineEnd(old) + "#" + line
				}
			}
			return joinLines(lines), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
