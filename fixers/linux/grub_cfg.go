package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// grubCfg replaces unstable device names in the kernel's arguments root= and
// resume=, where GRUB has them: on the "linux" lines of its configuration, the
// "kernel" lines of its first version, and the "options" lines of boot loader
// entries. Nothing else is touched: GRUB's own "set root='hd0,msdos1'", "root
// (hd0,0)" and "search" find their disk on any hardware.
//
// Only an initrd understands root=UUID=; an entry without one gets PARTUUID=,
// which the kernel itself resolves (Documentation/admin-guide, "root=").
//
// Source: GRUB manual, "linux"; Boot Loader Specification.
var grubCfg = fixer.Fixer{
	Name:    "linux/grub-cfg",
	Why:     "the kernel is told to mount its root from a name that does not exist on KVM",
	Vital:   true,
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		files, err := grubConfigs(g, in)
		if err != nil {
			return nil, err
		}
		var concerns []fixer.Concern
		for _, file := range files {
			err := g.Edit(file, func(old []byte) ([]byte, error) {
				now, more := renameArguments(old, file, in)
				concerns = append(concerns, more...)
				return now, nil
			})
			if err != nil {
				return concerns, err
			}
		}
		return concerns, nil
	},
}

// grubConfigs are GRUB's configuration files and boot loader entries, each once.
func grubConfigs(g *guest.View, in fixer.Input) ([]string, error) {
	names := []string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub/custom.cfg", "/boot/grub2/custom.cfg",
		"/boot/grub/menu.lst", "/boot/grub/grub.conf"}
	for _, b := range in.Facts.Bootloaders {
		if strings.HasPrefix(b.Kind, "grub") && b.Config != "" {
			names = append(names, b.Config)
		}
	}
	vendors, err := listed(g, "/boot/efi/EFI", "")
	if err != nil {
		return nil, err
	}
	for _, dir := range vendors {
		names = append(names, dir+"/grub.cfg")
	}
	entries, err := listed(g, "/boot/loader/entries", ".conf")
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range append(names, entries...) {
		at, err := g.Resolve(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(files, at) {
			files = append(files, at)
		}
	}
	return files, nil
}

// listed are the names in a folder that end in suffix; none if it is absent.
func listed(g *guest.View, dir, suffix string) ([]string, error) {
	list, err := g.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, info := range list {
		if strings.HasSuffix(info.Name, suffix) {
			names = append(names, path.Join(dir, info.Name))
		}
	}
	return names, err
}

var (
	kernelLine = regexp.MustCompile(`^\s*(linux|linux16|linuxefi|kernel|options)[ \t]`)
	initrdLine = regexp.MustCompile(`^\s*(initrd|initrd16|initrdefi)[ \t]`)
	entryEnd   = regexp.MustCompile(`^\s*(}|(menuentry|title|linux|linux16|linuxefi|kernel)[ \t])`)
	// deviceArgument is a kernel argument that names a device. A value ends at
	// a blank or a quote; GRUB's escapes do not occur in device names.
	deviceArgument = regexp.MustCompile(`(?:^|[\s"'])(root|resume)=["']?([^\s"'\\]+)`)
)

func renameArguments(old []byte, file string, in fixer.Input) ([]byte, []fixer.Concern) {
	lines := splitLines(old)
	// A boot loader entry is a file of its own, in any order of lines.
	initrd := strings.HasSuffix(file, ".conf") && slices.ContainsFunc(lines, initrdLine.MatchString)
	var unknown []unknownArgument
	roots := 0 // kernel lines that have a root which will be found
	for i := 0; i < len(lines); i++ {
		if !kernelLine.MatchString(lines[i]) {
			continue
		}
		name := naming(in, initrd || hasInitrd(lines[i+1:]))
		bad := false
		for ; ; i++ {
			var missed []unknownArgument
			lines[i], missed = renameIn(lines[i], fmt.Sprintf("%s:%d", file, i+1), name)
			bad = bad || slices.ContainsFunc(missed, func(u unknownArgument) bool { return u.key == "root" })
			unknown = append(unknown, missed...)
			if !continued(lines[i]) || i+1 == len(lines) {
				break
			}
		}
		if !bad {
			roots++
		}
	}
	return joinLines(lines), concernsOf(unknown, roots > 0)
}

// continued tells a line that ends in a backslash.
func continued(line string) bool {
	return strings.HasSuffix(strings.TrimRight(line, "\r\n"), `\`)
}

// hasInitrd tells whether the menu entry that goes on with these lines loads an
// initrd.
func hasInitrd(lines []string) bool {
	for _, line := range lines {
		if initrdLine.MatchString(line) {
			return true
		}
		if entryEnd.MatchString(line) {
			return false
		}
	}
	return false
}

// naming is how devices are named for a kernel with or without an initrd.
func naming(in fixer.Input, initrd bool) func(spec string) (string, bool) {
	if !initrd {
		return func(spec string) (string, bool) { return partUUID(in, spec) }
	}
	return func(spec string) (string, bool) { return stableName(in, spec) }
}

// unknownArgument is a kernel argument whose device could not be found.
type unknownArgument struct{ where, key, spec string }

// renameIn replaces the unstable names in the kernel arguments of a text.
func renameIn(text, where string, name func(string) (string, bool)) (string, []unknownArgument) {
	var unknown []unknownArgument
	found := deviceArgument.FindAllStringSubmatchIndex(text, -1)
	slices.Reverse(found) // so that the offsets before a replacement stay true
	for _, m := range found {
		value := span{m[4], m[5]}
		spec := value.of(text)
		if !unstable(spec) {
			continue
		}
		stable, ok := name(spec)
		if !ok {
			unknown = append(unknown, unknownArgument{where, text[m[2]:m[3]], spec})
			continue
		}
		text = value.replace(text, stable)
	}
	return text, unknown
}

// concernsOf says which arguments could not be mended. A root that is not found
// is a blocker unless another entry of the same file still boots.
func concernsOf(unknown []unknownArgument, boots bool) []fixer.Concern {
	var concerns []fixer.Concern
	for _, u := range unknown {
		c := fixer.Concern{
			Level: fixer.Warning,
			Code:  "linux/grub-unknown-device",
			Text:  fmt.Sprintf("%s: %s=%s is a name that changes on KVM, and no file system of this guest could be found for it", u.where, u.key, u.spec),
			Try:   "name it by UUID in the guest, or add the disk that it is on, and plan again",
		}
		if u.key == "root" && !boots {
			c.Level = fixer.Blocker
		}
		concerns = append(concerns, c)
	}
	return concerns
}

// rootIsPartition tells whether the root file system is on a partition or a
// whole disk, not on LVM, md or a mapping, whose names are stable.
func rootIsPartition(f inspect.Facts) bool {
	root, ok := f.MountAt("/")
	return ok && topologyName.MatchString(root.Device)
}
