package linux

import (
	"context"
	"fmt"
	"maps"
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
// "kernel" lines of its first version, the "options" lines of boot loader
// entries and of rEFInd, and RHEL 8's variable kernelopts, which those entries
// refer to. The "append" lines of the SYSLINUX family, and rEFInd's file beside
// the kernels, are treated alike. Nothing else is touched: GRUB's own "set root='hd0,msdos1'", "root (hd0,0)" and "search" find
// their disk on any hardware.
//
// Only an initrd understands root=UUID=; an entry without one gets PARTUUID=,
// which the kernel itself resolves (Documentation/admin-guide, "root=").
//
// Source: GRUB manual, "linux"; Boot Loader Specification; wiki.syslinux.org,
// "Config"; RHEL 8's 10_linux, blscfg; rodsbooks.com/refind, linux.html.
var grubCfg = fixer.Fixer{
	Name:    "linux/grub-cfg",
	Why:     "the kernel is told to mount its root from a name that does not exist on KVM",
	Vital:   true,
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		files, err := BootMenus(g, in.Facts)
		if err != nil {
			return nil, err
		}
		menus := map[string]menu{}
		for _, file := range files {
			err := g.Edit(file, func(old []byte) ([]byte, error) {
				now, found := renameArguments(old, file, in)
				m := menus[menuOf(file)]
				menus[menuOf(file)] = menu{append(m.unknown, found.unknown...), m.boots || found.boots}
				return now, nil
			})
			if err != nil {
				return nil, err
			}
		}
		var concerns []fixer.Concern
		for _, name := range slices.Sorted(maps.Keys(menus)) {
			concerns = append(concerns, concernsOf(menus[name].unknown, menus[name].boots)...)
		}
		more, err := renameKernelopts(g, in, files)
		return slices.Concat(concerns, more, loaderConcerns(g, in)), err
	},
}

// menu is what was found in a boot loader's menu.
type menu struct {
	unknown []unknownArgument
	boots   bool // an entry has a root that will be found
}

// menuOf is the menu that a file is of: itself, or the folder of its entries.
func menuOf(file string) string {
	if ordered.MatchString(file) || !strings.HasSuffix(path.Dir(file), "/entries") {
		return file
	}
	return path.Dir(file)
}

var (
	kernelLine = regexp.MustCompile(`^\s*((linux|linux16|linuxefi|kernel|options|(?i:append))[ \t]|set[ \t]+kernelopts=|"[^"]*"[ \t]+")`)
	initrdLine = regexp.MustCompile(`^\s*(?:(?i:initrd)|initrd16|initrdefi)[ \t]|^\s*(?i:append)[ \t].*\binitrd=`)
	entryEnd   = regexp.MustCompile(`^\s*(}|(menuentry|title|linux|linux16|linuxefi|kernel|options|(?i:append))[ \t]|set[ \t]+kernelopts=)`)
	// deviceArgument is a kernel argument that names a device. A value ends at
	// a blank or a quote; GRUB's escapes do not occur in device names.
	deviceArgument = regexp.MustCompile(`(?:^|[\s"'])(root|resume)=["']?([^\s"'\\]+)`)
	rootArgument   = regexp.MustCompile(`(?:^|[\s"'])root=`)
)

// ordered matches GRUB's own files, in which an entry's initrd comes after its
// kernel. A boot loader entry is a file of its own, in any order of lines.
var ordered = regexp.MustCompile(`(^|/)(grub\.cfg|custom\.cfg|menu\.lst|grub\.conf)$`)

func renameArguments(old []byte, file string, in fixer.Input) ([]byte, menu) {
	lines := splitLines(old)
	initrd := !ordered.MatchString(file) && slices.ContainsFunc(lines, initrdLine.MatchString)
	var found menu
	for i := 0; i < len(lines); i++ {
		if !kernelLine.MatchString(lines[i]) {
			continue
		}
		withInitrd := initrd || hasInitrd(lines[i+1:]) || strings.Contains(lines[i], kernelopts)
		name := naming(in, withInitrd)
		root, bad := false, false
		for ; ; i++ {
			var missed []unknownArgument
			lines[i], missed = renameIn(lines[i], fmt.Sprintf("%s:%d", file, i+1), name)
			root = root || rootArgument.MatchString(lines[i])
			bad = bad || slices.ContainsFunc(missed, func(u unknownArgument) bool { return u.key == "root" })
			found.unknown = append(found.unknown, missed...)
			if !continued(lines[i]) || i+1 == len(lines) {
				break
			}
		}
		found.boots = found.boots || root && !bad
	}
	return joinLines(lines), found
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
	var out strings.Builder
	var unknown []unknownArgument
	done := 0
	for _, m := range deviceArgument.FindAllStringSubmatchIndex(text, -1) {
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
		out.WriteString(text[done:value.start] + stable)
		done = value.end
	}
	return out.String() + text[done:], unknown
}

// concernsOf says which arguments could not be mended. A root that is not found
// is a blocker unless another entry of the same menu still boots.
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
