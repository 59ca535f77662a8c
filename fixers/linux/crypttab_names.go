package linux

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// crypttabNames replaces unstable device names in /etc/crypttab by the UUID of
// the LUKS header. A device that gets a new random key at each boot has no
// header: what stands there is noise, or the swap space of long ago, whose UUID
// would be gone after the first boot. It is named by its partition only.
//
// Source: crypttab(5) of systemd and of Debian's cryptsetup. Links under
// /dev/disk/by-partuuid are older than PARTUUID= in the latter.
var crypttabNames = fixer.Fixer{
	Name:    "linux/crypttab-names",
	Why:     "names made from VMware's controllers and disks do not exist on KVM, so the encrypted device is never opened",
	Vital:   true,
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) (concerns []fixer.Concern, err error) {
		err = g.Edit("/etc/crypttab", func(old []byte) (now []byte, err error) {
			now, concerns = renameCrypttab(old, in)
			concerns = append(concerns, typed(old, in)...)
			return now, nil
		})
		return concerns, err
	},
}

// typed tells of passphrases that somebody types when the guest starts. The boot test
// types those that opened their devices.
func typed(crypttab []byte, in fixer.Input) (concerns []fixer.Concern) {
	for _, e := range inspect.ParseCrypttab(crypttab) {
		if !e.Asks() || !neededAtBoot(in, e) {
			continue
		}
		concerns = append(concerns, asksForPassphrase(in, e))
	}
	return concerns
}

func asksForPassphrase(in fixer.Input, e inspect.CrypttabEntry) fixer.Concern {
	text := fmt.Sprintf("/etc/crypttab:%d: the guest asks for the passphrase of %s when it starts", e.Line, e.Name)
	if opened(in, e) {
		return fixer.Concern{
			Level: fixer.Info,
			Code:  "linux/asks-for-passphrase",
			Text:  text + ": the boot test types the one that --key gave, as on a US keyboard",
			Try:   "have it at hand when the guest starts on KVM",
		}
	}
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/asks-for-passphrase",
		Text:  text + ": none was given, so the boot test types none, and this guest cannot be proved",
		Try:   "give it with --key, or see the guest start once on its console with the passphrase at hand",
	}
}

// opened tells whether a key was given for what an entry opens.
func opened(in fixer.Input, e inspect.CrypttabEntry) bool {
	alias, ok := in.Facts.Resolve("/dev/mapper/"+e.Name, in.Machine)
	return ok && slices.ContainsFunc(in.Facts.Topology.Volumes, func(v guest.Volume) bool { return v.Name == alias && v.Problem == "" })
}

// neededAtBoot tells whether something that the guest mounts by itself is on what an
// entry opens.
func neededAtBoot(in fixer.Input, e inspect.CrypttabEntry) bool {
	alias, ok := in.Facts.Resolve("/dev/mapper/"+e.Name, in.Machine)
	return slices.ContainsFunc(in.Facts.Mounts, func(m inspect.Mount) bool {
		options := inspect.FstabEntry{Options: m.Options}
		if options.Has("noauto") || options.Has("nofail") {
			return false
		}
		return m.Spec == "/dev/mapper/"+e.Name || ok && slices.ContainsFunc(in.Facts.Encrypted(m.Device), func(v guest.Volume) bool { return v.Name == alias })
	})
}

func renameCrypttab(old []byte, in fixer.Input) ([]byte, []fixer.Concern) {
	var concerns []fixer.Concern
	lines := splitLines(old)
	for i, line := range lines {
		parts := fields(line)
		if len(parts) < 2 {
			continue
		}
		where, spec := fmt.Sprintf("/etc/crypttab:%d", i+1), parts[1].of(line)
		if len(parts) > 2 && unstableKey(parts[2].of(line)) {
			concerns = append(concerns, unstableKeyDevice(where, parts[2].of(line)))
		}
		if !unstable(spec) {
			continue
		}
		name, ok := cryptName(in, line, parts)
		if !ok {
			concerns = append(concerns, unknownCrypt(in, where, parts[0].of(line), spec))
			continue
		}
		if strings.HasPrefix(name, byVirtioSerial) {
			concerns = append(concerns, bySerial(where, spec, name))
		}
		lines[i] = parts[1].replace(line, name)
	}
	return joinLines(lines), concerns
}

func cryptName(in fixer.Input, line string, parts []span) (string, bool) {
	spec := parts[1].of(line)
	if hasNoHeader(line, parts) {
		name, ok := partUUID(in, spec)
		return linkOf(name), ok
	}
	name, ok := stableName(in, spec)
	if strings.HasPrefix(name, "PARTUUID=") {
		name = linkOf(name)
	}
	return name, ok
}

// hasNoHeader tells a plain mapping: its key is random, or its options say so.
func hasNoHeader(line string, parts []span) bool {
	if len(parts) > 2 && strings.HasSuffix(parts[2].of(line), "random") {
		return true
	}
	if len(parts) < 4 {
		return false
	}
	options := strings.Split(parts[3].of(line), ",")
	return slices.Contains(options, "plain") || slices.Contains(options, "swap") || slices.Contains(options, "tmp")
}

// unstableKey tells a key file on a device of its own: /dev/sdb1:/key.
func unstableKey(key string) bool {
	device, _, _ := strings.Cut(key, ":")
	return unstable(device)
}

func unstableKeyDevice(where, key string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/crypttab-unstable-key",
		Text:  fmt.Sprintf("%s: the key is on %s, a name that changes on KVM", where, key),
		Try:   "name the key's device by its link under /dev/disk/by-uuid",
	}
}

func unknownCrypt(in fixer.Input, where, mapped, spec string) fixer.Concern {
	c := fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/crypttab-unknown-device",
		Text:  fmt.Sprintf("%s: %s for %s is a name that changes on KVM, and no partition of this guest could be found for it", where, spec, mapped),
		Try:   "name it by the UUID of its LUKS header (cryptsetup luksUUID), or add the disk that it is on, and plan again",
	}
	for _, m := range in.Facts.Mounts {
		e := inspect.FstabEntry{Options: m.Options}
		if m.Spec == "/dev/mapper/"+mapped && m.Path != "none" && !e.Has("nofail") && !e.Has("noauto") {
			c.Level = fixer.Blocker
		}
	}
	return c
}
