package inspect

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Bounds on what is taken of a menu.
const (
	maxOffers  = 256 // entries
	maxInitrds = 16  // of one entry
)

// offer is one kernel in a boot loader's menu, with names in the guest.
type offer struct {
	image    string // resolved
	initrd   string // resolved; "" for none
	options  string
	version  string // when the menu says it
	distro   string // of a unified image: os-release's ID
	stub     int    // of a unified image: systemd-stub's version
	source   string
	chosen   bool // the menu's default
	inImage  bool // the initrd is inside the image
	problems []string
}

// menu is what a boot loader's configuration offers.
type menu struct {
	entries []BootEntry
	sources []string // of each entry
	chosen  int      // index of the default
	fs      string   // where the file system that the names are relative to is mounted
}

// entries reads the menus of all boot loaders. The default is that of the
// first loader that offers anything.
func (t *files) entries(f Facts, esps []string) []offer {
	var offers []offer
	for _, b := range f.Bootloaders {
		found := t.offers(f, esps, b)
		for i := range found {
			found[i].chosen = found[i].chosen && len(offers) == 0
		}
		offers = append(offers, found...)
	}
	return offers[:min(len(offers), maxFiles)]
}

func (t *files) offers(f Facts, esps []string, b Bootloader) []offer {
	var m menu
	switch b.Kind {
	case "grub2":
		m = t.grub2Menu(b.Config)
	case "grub1":
		m = t.grub1Menu(b.Config)
	case "extlinux", "syslinux":
		m = t.extlinuxMenu(b.Config)
	case "lilo":
		m = t.liloMenu(b.Config)
	case "systemd-boot", "grub2-bls":
		return t.systemdOffers(esps, b)
	case "uki":
		return []offer{t.unified(b.Config)}
	}
	if m.fs == "" {
		m.fs = mountOf(f, b.Config)
	}
	named := func(name string) string { return f.fromTopLevel(b.Config, name) }
	var offers []offer
	for i, e := range m.entries[:min(len(m.entries), maxOffers)] {
		o := t.offer(e.with(named), append([]string{m.fs, "/", "/boot"}, esps...))
		o.source, o.chosen = m.sources[i], i == m.chosen
		offers = append(offers, o)
	}
	return offers
}

// mountOf is the folder at which the file system that holds a file is mounted.
func mountOf(f Facts, name string) string {
	m, _ := f.MountOf(name)
	return cmp.Or(m.Path, "/")
}

// with is an entry whose files have other names.
func (e BootEntry) with(named func(string) string) BootEntry {
	e.Linux = named(e.Linux)
	initrds := e.Initrds[:min(len(e.Initrds), maxInitrds)]
	e.Initrds = nil
	for _, name := range initrds {
		e.Initrds = append(e.Initrds, named(name))
	}
	return e
}

// offer finds the files of an entry.
func (t *files) offer(e BootEntry, roots []string) offer {
	o := offer{options: e.Options, version: e.Version}
	o.image = t.bootFile(&o, e.Linux, roots)
	for _, name := range mainInitrds(e.Initrds[:min(len(e.Initrds), maxInitrds)]) {
		o.initrd = t.bootFile(&o, name, roots)
	}
	return o
}

// tunedInitrd is the archive of settings that tuned lets the boot loader load
// behind the initrd.
//
// Source: tuned plugin_bootloader.py, BOOT_DIR, initrd_dst_img.
const tunedInitrd = "tuned-initrd.img"

// mainInitrds leaves out what comes behind an entry's initrd: tuned's archive,
// and variables, which are empty when no such archive is there. Microcode comes
// in front.
func mainInitrds(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return variable.FindString(name) == name || path.Base(name) == tunedInitrd
	})
}

// withoutDevice leaves out the loader's own device in front of a name, which is in
// brackets.
func withoutDevice(name string) string {
	if strings.HasPrefix(name, "(") {
		_, name, _ = strings.Cut(name, ")")
	}
	return name
}

// bootFile finds a file that a boot loader names.
func (t *files) bootFile(o *offer, name string, roots []string) string {
	name = withoutDevice(name)
	for _, root := range roots {
		if at := path.Join(root, path.Clean("/"+name)); t.exists(at) {
			return t.resolve(at)
		}
	}
	at := path.Join(roots[0], path.Clean("/"+name))
	o.problems = append(o.problems, at+" is not there")
	return at
}

func (m *menu) add(e BootEntry, config string) {
	m.entries = append(m.entries, e)
	m.sources = append(m.sources, fmt.Sprintf("%s:%d", config, e.Line))
}

// grub2Menu reads grub.cfg and the BLS entries that it includes.
func (t *files) grub2Menu(config string) menu {
	data, ok := t.read(config, maxList)
	if !ok {
		return menu{}
	}
	cfg := ParseGrubCfg(data)
	var m menu
	for _, e := range cfg.Entries {
		m.add(e, config)
	}
	name := cfg.Default
	if strings.Contains(name, "saved_entry") {
		name = t.grubenv("saved_entry", grubenvs(config)...)
	}
	m.chosen = pick(cfg.Entries, name)
	if !cfg.BLS {
		return m
	}
	bls := t.blsMenu("/boot/loader/entries")
	t.expand(bls, config)
	if len(bls.entries) > 0 {
		m.chosen = len(m.entries) + bls.named(name)
	}
	m.entries, m.sources = append(m.entries, bls.entries...), append(m.sources, bls.sources...)
	return m
}

// variable is one of GRUB's, which distributions put into BLS entries.
var variable = regexp.MustCompile(`\$\{?(\w+)\}?`)

// expand puts GRUB's saved variables into entries, as $kernelopts of RHEL 8;
// those that are not saved, as $tuned_initrd, are empty.
func (t *files) expand(m menu, config string) {
	saved := func(v string) string {
		return t.grubenv(variable.FindStringSubmatch(v)[1], grubenvs(config)...)
	}
	for i := range m.entries {
		e := &m.entries[i]
		e.Options = strings.Join(strings.Fields(variable.ReplaceAllStringFunc(e.Options, saved)), " ")
		e.Initrds = strings.Fields(variable.ReplaceAllStringFunc(strings.Join(e.Initrds, " "), saved))
	}
}

// grubenvs are where the environment block of a configuration may be.
func grubenvs(config string) []string {
	return []string{path.Dir(config) + "/grubenv", "/boot/grub2/grubenv", "/boot/grub/grubenv"}
}
