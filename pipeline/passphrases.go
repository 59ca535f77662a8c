package pipeline

import (
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/testers/watch"
)

// passphrases are for all that is encrypted in a guest, by the names that it may ask
// for them with: those of its crypttab, the UUID, which is a part of what systemd
// makes of it, and the device's place.
func passphrases(f inspect.Facts, keys *guest.Keyring) []watch.Passphrase {
	var all []watch.Passphrase
	for _, v := range f.Topology.Volumes {
		if v.Crypt == nil {
			continue
		}
		names := []string{v.UUID}
		for _, a := range f.Aliases {
			if name, mapped := strings.CutPrefix(a.Name, "/dev/mapper/"); mapped && a.Device == v.Name {
				names = append(names, name)
			}
		}
		all = append(all, watch.NewPassphrase(keys.Passphrase(v.On[0]), names...))
	}
	return all
}
