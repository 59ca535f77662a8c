package linux

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// defaultGrub mends what GRUB's configuration is generated from, so that the
// guest's next update-grub does not bring the old names back: unstable names in
// GRUB_CMDLINE_LINUX* and GRUB_DEVICE*, and GRUB_DISABLE_LINUX_UUID=true, with
// which the generator writes root=/dev/vda1 instead of a UUID. Quotes stay as
// they are. What new boot loader entries are made from is mended likewise.
//
// Source: GRUB manual, "Simple configuration handling"; Debian's
// /etc/default/grub.d.
var defaultGrub = fixer.Fixer{
	Name:    "linux/default-grub",
	Why:     "the next grub.cfg that the guest generates would have names that do not exist on KVM",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		snippets, err := listed(g, "/etc/default/grub.d", ".cfg")
		if err != nil {
			return nil, err
		}
		var concerns []fixer.Concern
		for _, file := range append([]string{"/etc/default/grub"}, snippets...) {
			err := g.Edit(file, func(old []byte) ([]byte, error) {
				now, unknown := renameDefaults(string(old), file, in)
				concerns = append(concerns, concernsOf(unknown, true)...)
				if rootIsPartition(in.Facts) {
					now = enableUUIDs(now)
				}
				return []byte(now), nil
			})
			if err != nil {
				return concerns, err
			}
		}
		settings, err := settingsOf(g)
		if err != nil {
			return concerns, err
		}
		for _, file := range settings {
			err := g.Edit(file, func(old []byte) ([]byte, error) {
				now, unknown := renameIn(string(old), file, naming(in, true))
				concerns = append(concerns, concernsOf(unknown, true)...)
				return []byte(now), nil
			})
			if err != nil {
				return concerns, err
			}
		}
		return concerns, nil
	},
}

// entrySettings are what new boot loader entries and unified images are made
// from, and folders of such files: kernel-install(8), ukify(1), mkinitcpio(8) and
// dracut's kernel_cmdline, Pop!_OS's kernelstub, Alpine's update-extlinux, SUSE's
// settings of boot loaders before GRUB 2.
var entrySettings = []string{
	"/etc/kernel/cmdline", "/etc/kernel/uki.conf", "/etc/cmdline.d/", "/etc/dracut.conf", "/etc/dracut.conf.d/",
	"/etc/kernelstub/configuration", "/etc/update-extlinux.conf", "/etc/sysconfig/bootloader",
}

// settingsOf are the files of entrySettings, with those in its folders.
func settingsOf(g *guest.View) ([]string, error) {
	var files []string
	for _, name := range entrySettings {
		if !strings.HasSuffix(name, "/") {
			files = append(files, name)
			continue
		}
		found, err := listed(g, name, ".conf")
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

var (
	grubVariable = regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?(GRUB_CMDLINE_LINUX\w*|GRUB_DEVICE\w*)=`)
	noUUIDs      = regexp.MustCompile(`(?m)^([ \t]*(?:export[ \t]+)?GRUB_DISABLE_(?:LINUX_)?UUID=["']?true["']?[^\r\n]*)(\r?)$`)
)

func renameDefaults(text, file string, in fixer.Input) (string, []unknownArgument) {
	var out strings.Builder
	var unknown []unknownArgument
	for {
		m := grubVariable.FindStringSubmatchIndex(text)
		if m == nil {
			out.WriteString(text)
			return out.String(), unknown
		}
		variable, end := text[m[2]:m[3]], m[1]+wordEnd(text[m[1]:])
		where := fmt.Sprintf("%s: %s", file, variable)
		value, missed := text[m[1]:end], []unknownArgument(nil)
		if strings.HasPrefix(variable, "GRUB_DEVICE") {
			value, missed = renameDevice(value, where, in)
		} else {
			value, missed = renameIn(value, where, naming(in, true))
		}
		out.WriteString(text[:m[1]] + value)
		unknown = append(unknown, missed...)
		text = text[end:]
	}
}

// renameDevice renames a value that is one device. GRUB's tools open it, so it
// becomes a path.
func renameDevice(value, where string, in fixer.Input) (string, []unknownArgument) {
	spec := strings.Trim(value, `"'`)
	if !unstable(spec) {
		return value, nil
	}
	name, ok := stableName(in, spec)
	if !ok {
		return value, []unknownArgument{{where, "device", spec}}
	}
	return strings.Replace(value, spec, linkOf(name), 1), nil
}

// wordEnd is where the shell word at the start of text ends: quotes may hold
// blanks and line ends, a backslash quotes one character.
func wordEnd(text string) int {
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quote != '\'':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case strings.IndexByte(" \t\r\n;&|#", c) >= 0:
			return i
		}
	}
	return len(text)
}

const uuidNote = "# Off since the move to KVM, where device names such as /dev/sda1 change."

// enableUUIDs comments out what keeps the generator from naming the root file
// system by its UUID.
func enableUUIDs(text string) string {
	return noUUIDs.ReplaceAllString(text, uuidNote+"${2}\n#${1}${2}")
}
