package libvirt

import (
	"fmt"
	"strings"
)

// troubles are what keeps one from a daemon, by libvirt's own words, and what to
// do about it.
var troubles = []struct {
	words []string
	try   string
}{
	{[]string{"libvirt.so.0", "libvirt-qemu.so.0"}, "libvirt is not installed: install libvirt-daemon-system"},
	{[]string{"No such file or directory", "Connection refused"}, "its daemon does not run: install libvirt-daemon-system and start it (systemctl start libvirtd)"},
	{[]string{"Permission denied", "uthentication", "ccess denied"}, "this user may not use it: run as root, join the group libvirt, or give --connect qemu:///session"},
	{[]string{"no connection driver"}, "this libvirt runs no QEMU: install libvirt-daemon-driver-qemu"},
}

// unreachable is a daemon that cannot be connected to, with what to try.
func unreachable(uri, said string) error {
	for _, t := range troubles {
		for _, words := range t.words {
			if strings.Contains(said, words) {
				return fmt.Errorf("%w at %s: %s (%s)", ErrUnreachable, uri, t.try, said)
			}
		}
	}
	return fmt.Errorf("%w at %s: %s", ErrUnreachable, uri, said)
}
