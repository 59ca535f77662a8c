package inspect

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// typeOne finds what reads the entries of the boot loader specification on an
// EFI system partition: systemd-boot, or a GRUB that was built for it and has no
// configuration of its own, whose entries' folder is its configuration.
//
// Source: systemd-boot(7); openSUSE's grub2-bls and sdbootutil.
func (t *files) typeOne(esp string) (kind, config string) {
	loader := t.fold(esp, "loader")
	if loader == "" {
		return "", ""
	}
	if config := t.fold(loader, "loader.conf"); config != "" {
		return "systemd-boot", config
	}
	if dir := t.fold(esp, "EFI"); dir != "" && t.fold(dir, "systemd") != "" {
		return "systemd-boot", path.Join(loader, "loader.conf")
	}
	entries := t.fold(loader, "entries")
	if entries == "" || len(t.efiVendors(esp)) == 0 || len(t.glob(entries+"/*.conf")) == 0 {
		return "", ""
	}
	return "grub2-bls", entries
}

// choice is what a boot manager of the specification offers, with what it is
// sorted by.
type choice struct {
	offer
	id        string // what a default names it by
	sortKey   string
	machine   string
	exhausted bool // its boots were counted, and none is left
}

// systemdOffers are the entries and unified images on the EFI system partitions
// and on the extended boot partition, which is /boot, as they stand in the menu.
//
// Source: uapi-group.org, "Boot Loader Specification"; systemd-boot(7);
// loader.conf(5), default.
func (t *files) systemdOffers(esps []string, b Bootloader) []offer {
	var all []choice
	roots := slices.Clone(esps)
	if !slices.Contains(roots, "/boot") {
		roots = append(roots, "/boot")
	}
	for _, root := range roots {
		all = append(all, t.entryChoices(root, roots)...)
		all = append(all, t.imageChoices(root)...)
	}
	slices.SortStableFunc(all, compareChoices)
	if len(all) > 0 {
		all[t.chosen(all, b)].chosen = true
	}
	var offers []offer
	for _, c := range all[:min(len(all), maxOffers)] {
		offers = append(offers, c.offer)
	}
	return offers
}

// entryChoices are the entries on one file system.
func (t *files) entryChoices(root string, roots []string) []choice {
	m := t.blsMenu(path.Join(root, "loader/entries"))
	var all []choice
	for i, e := range m.entries {
		c := choice{sortKey: e.SortKey, machine: e.Machine}
		c.id, c.exhausted = withoutCounter(e.ID)
		c.id += ".conf"
		if e.Program {
			c.offer = t.unified(t.bootFile(&c.offer, e.Linux, append([]string{root}, roots...)))
			if c.offer.version == "" && c.offer.options == "" { // a shell, a tool of the firmware's
				continue
			}
			c.options = strings.TrimSpace(c.options + " " + e.Options)
		} else {
			c.offer = t.offer(e, append([]string{root, "/"}, roots...))
		}
		c.chosen, c.source = false, m.sources[i]
		all = append(all, c)
	}
	return all
}

// imageChoices are the unified images on one file system.
func (t *files) imageChoices(root string) []choice {
	efi := t.fold(root, "EFI")
	if efi == "" {
		return nil
	}
	dir := t.fold(efi, "Linux")
	if dir == "" {
		return nil
	}
	var all []choice
	for _, image := range t.efiFiles(dir) {
		c := choice{offer: t.unified(image)}
		name := path.Base(image)
		c.id, c.exhausted = withoutCounter(name[:len(name)-len(".efi")])
		c.id += ".efi"
		c.chosen, c.sortKey = false, c.offer.distro
		all = append(all, c)
	}
	return all
}

// compareChoices is the order of the menu: the newest of a distribution first.
func compareChoices(a, b choice) int {
	if a.exhausted != b.exhausted {
		return boolCompare(a.exhausted, b.exhausted)
	}
	if keyed := a.sortKey != ""; keyed != (b.sortKey != "") {
		return boolCompare(!keyed, keyed)
	}
	return cmp.Or(cmp.Compare(a.sortKey, b.sortKey), cmp.Compare(a.machine, b.machine),
		compareVersions(b.version, a.version), compareVersions(b.id, a.id))
}

// boolCompare puts false in front of true.
func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// chosen is the entry that loader.conf names, by a pattern, or the first. What
// the firmware's variables say is not on the disks.
func (t *files) chosen(all []choice, b Bootloader) int {
	if b.Kind != "systemd-boot" {
		return 0
	}
	for _, l := range t.lines(b.Config) {
		f := strings.Fields(l)
		if len(f) != 2 || f[0] != "default" {
			continue
		}
		i := slices.IndexFunc(all, func(c choice) bool {
			for _, name := range []string{c.id, strings.TrimSuffix(c.id, ".conf")} {
				if ok, err := path.Match(strings.ToLower(f[1]), strings.ToLower(name)); err == nil && ok {
					return true
				}
			}
			return false
		})
		return max(0, i)
	}
	return 0
}

// withoutCounter takes the counter of boot attempts off the name of an entry:
// how many are left, and how many were made.
//
// Source: systemd's "Automatic Boot Assessment".
func withoutCounter(name string) (id string, exhausted bool) {
	i := strings.LastIndexByte(name, '+')
	if i < 0 {
		return name, false
	}
	left, done, _ := strings.Cut(name[i+1:], "-")
	if left == "" || strings.Trim(left+done, "0123456789") != "" {
		return name, false
	}
	return name[:i], strings.Trim(left, "0") == ""
}
