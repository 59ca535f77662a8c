package linux

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// unprovenLoaders are boot loaders whose menus are mended as GRUB's are, though
// no guest with them was ever proved by a boot of ours.
var unprovenLoaders = map[string]string{
	"grub1": "the first GRUB", "grub2-bls": "a GRUB that has nothing but boot loader entries",
	"systemd-boot": "systemd-boot", "extlinux": "EXTLINUX", "syslinux": "SYSLINUX", "refind": "rEFInd",
}

// loaderConcerns says what is not known, or not possible, of the boot loaders
// that were found.
func loaderConcerns(g *guest.View, in fixer.Input) []fixer.Concern {
	var concerns []fixer.Concern
	for _, b := range in.Facts.Bootloaders {
		name, unproven := unprovenLoaders[b.Kind]
		switch {
		case unproven && !slices.ContainsFunc(concerns, func(c fixer.Concern) bool { return c.Code == "linux/boot-loader-unproven" }):
			concerns = append(concerns, unprovenLoader(b, name))
		case b.Kind == "lilo":
			concerns = append(concerns, liloConcerns(g, in, b)...)
		}
	}
	return concerns
}

func unprovenLoader(b inspect.Bootloader, name string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Info,
		Code:  "linux/boot-loader-unproven",
		Text:  fmt.Sprintf("%s: this guest may start by %s, whose menu is mended as GRUB 2's is, but with which no guest was proved yet", b.Config, name),
		Try:   "look at the boot test's result before this guest is depended on",
	}
}

// liloRoot matches a root in lilo.conf; "current" is what is mounted as lilo runs.
var liloRoot = regexp.MustCompile(`(?m)^[ \t]*root[ \t]*=[ \t]*"?([^\s"#]+)`)

// liloConcerns tells of LILO, which keeps the kernel's command line and the
// places of kernel and initrd on the disk in a file of its own: an edit of
// lilo.conf does nothing until the guest runs lilo.
//
// Source: lilo(8), lilo.conf(5).
func liloConcerns(g *guest.View, in fixer.Input, b inspect.Bootloader) []fixer.Concern {
	text, err := g.ReadFile(b.Config, guest.MaxText)
	if err != nil {
		return []fixer.Concern{liloUnread(b, err)}
	}
	var names []string
	for _, m := range liloRoot.FindAllSubmatch(text, -1) {
		if spec := string(m[1]); (unstable(spec) || spec == "current") && !slices.Contains(names, spec) {
			names = append(names, spec)
		}
	}
	if len(names) == 0 {
		return nil
	}
	c := fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/lilo-root",
		Text:  fmt.Sprintf("%s: LILO has the root %s, a name that changes on KVM, written into its map, which cannot be mended from outside", b.Config, strings.Join(names, ", ")),
		Try:   "name the root by UUID in an append= line in the guest and run lilo there, or install GRUB; then migrate again",
	}
	if inUse(in.Facts, "LILO", b) {
		c.Level = fixer.Blocker
	}
	return []fixer.Concern{c}
}

func liloUnread(b inspect.Bootloader, err error) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/lilo-root",
		Text:  fmt.Sprintf("%s: what LILO starts could not be read: %v", b.Config, err),
		Try:   "watch the first boot",
	}
}

// inUse tells whether a boot loader is the one that starts the guest, or may be:
// its code is in a disk's first sector, or it is the only one.
func inUse(f inspect.Facts, code string, b inspect.Bootloader) bool {
	for _, d := range f.Topology.Disks {
		if strings.Contains(d.BootCode, code) {
			return true
		}
	}
	return !slices.ContainsFunc(f.Bootloaders, func(o inspect.Bootloader) bool { return o.Kind != b.Kind })
}
