package inspect

import (
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// CrypttabEntry is one line of crypttab.
type CrypttabEntry struct {
	Line    int    // from 1
	Name    string // below /dev/mapper
	Spec    string // the encrypted device
	Key     string // a file; "none", "-" or "" where somebody is asked
	Options string
}

// ParseCrypttab reads a crypttab: comments and lines of fewer than two fields are
// passed over, missing fields are empty.
//
// Source: crypttab(5).
func ParseCrypttab(data []byte) []CrypttabEntry {
	var entries []CrypttabEntry
	for i, line := range splitLines(data) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0][0] == '#' {
			continue
		}
		f = append(f, "", "")
		entries = append(entries, CrypttabEntry{Line: i + 1, Name: f[0], Spec: f[1], Key: f[2], Options: f[3]})
	}
	return entries
}

// Has tells whether an option is set, as itself or with a value.
func (e CrypttabEntry) Has(option string) bool { return FstabEntry{Options: e.Options}.Has(option) }

// Asks tells whether somebody must type a passphrase when the guest starts: there is
// neither a file with the key nor a token that gives it.
//
// Source: crypttab(5) of systemd, tpm2-device=, fido2-device= and pkcs11-uri=; of
// Debian's cryptsetup, keyscript=.
func (e CrypttabEntry) Asks() bool {
	return slices.Contains([]string{"", "none", "-"}, e.Key) && !slices.ContainsFunc(
		[]string{"noauto", "tpm2-device", "fido2-device", "pkcs11-uri", "keyscript", "plain", "swap", "tmp"}, e.Has)
}

// crypttab adds the names that crypttab gives to what is encrypted. One entry may
// name a device that another has opened.
func (t *files) crypttab(f Facts, m machine.Machine, all []Alias) []Alias {
	data, ok := t.read("/etc/crypttab", maxConfig)
	if !ok {
		return all
	}
	for _, e := range ParseCrypttab(data) {
		f.Aliases = all
		device, ok := f.Resolve(e.Spec, m)
		if v, found := f.crypt(device); ok && found && len(all) < maxFiles {
			source := fmt.Sprintf("/etc/crypttab:%d", e.Line)
			all = append(all, Alias{"/dev/mapper/" + e.Name, v.Name, source}, Alias{"/dev/disk/by-id/dm-name-" + e.Name, v.Name, source})
		}
	}
	return all
}

// crypt is the volume that is encrypted on a device.
func (f Facts) crypt(device string) (guest.Volume, bool) {
	i := slices.IndexFunc(f.Topology.Volumes, func(v guest.Volume) bool { return v.Crypt != nil && slices.Contains(v.On, device) })
	if i < 0 {
		return guest.Volume{}, false
	}
	return f.Topology.Volumes[i], true
}

// Encrypted are the encrypted volumes that a device of the topology lies on, or is.
func (f Facts) Encrypted(device string) []guest.Volume {
	var found []guest.Volume
	on := []string{device}
	for range len(f.Topology.Volumes) + 1 { // no volume lies on itself
		var next []string
		for _, d := range on {
			v, ok := f.volume(d)
			if ok && v.Crypt != nil && !slices.ContainsFunc(found, func(o guest.Volume) bool { return o.Name == v.Name }) {
				found = append(found, v)
			}
			next = append(next, v.On...)
		}
		on = next
	}
	return found
}
