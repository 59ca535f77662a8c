package initrd

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// loadList is a file that makes an initrd load modules at its start.
type loadList struct {
	file   string
	prefix string // in front of each name
	quoted bool   // shell: MODULES="$MODULES NAME"
}

// loadList returns the file that the initrd's own start-up reads.
//
// Source: initramfs-tools scripts/functions, load_modules (conf/modules, a name
// and its parameters a line); dracut's --force-drivers, which writes
// rd.driver.pre to etc/cmdline.d, read by parse-kernel.sh and dracut-pre-udev.sh
// with and without systemd; mkinitcpio install/systemd and init; modules-load.d(5).
func (i *Initrd) loadList() (loadList, bool) {
	switch {
	case i.Generator == "initramfs-tools":
		return loadList{file: "conf/modules"}, true
	case i.Generator == "dracut":
		return loadList{file: "etc/cmdline.d/99-hyper2kvm-drivers.conf", prefix: "rd.driver.pre="}, true
	case i.Has("usr/lib/systemd/systemd-modules-load"), i.Has("lib/systemd/systemd-modules-load"):
		return loadList{file: "etc/modules-load.d/hyper2kvm.conf"}, true
	case i.Generator == "mkinitcpio":
		return loadList{file: "config", quoted: true}, true
	}
	return loadList{}, false
}

// has reports whether a list names a module already.
func (l loadList) has(old []byte, name string) bool {
	for line := range strings.Lines(string(old)) {
		fields := strings.Fields(strings.Trim(strings.TrimPrefix(strings.TrimSpace(line), "MODULES="), `"'`))
		if !l.quoted {
			fields = fields[:min(1, len(fields))]
		}
		if slices.ContainsFunc(fields, func(f string) bool { return normal(strings.TrimPrefix(f, l.prefix)) == name }) {
			return true
		}
	}
	return false
}

// append adds names and keeps every byte that is there.
func (l loadList) append(old []byte, names []string) []byte {
	out := slices.Clone(old)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	if l.quoted {
		return append(out, `MODULES="$MODULES `+strings.Join(names, " ")+"\"\n"...)
	}
	for _, name := range names {
		out = append(out, l.prefix+name+"\n"...)
	}
	return out
}

// existing reads a file that may be missing.
func (i *Initrd) existing(name string) ([]byte, error) {
	data, err := i.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
