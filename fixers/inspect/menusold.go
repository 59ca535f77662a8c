package inspect

import (
	"path"
	"slices"
	"strings"
)

// grub1Menu reads menu.lst or grub.conf.
//
// Source: GRUB Legacy's manual, "Configuration".
func (t *files) grub1Menu(config string) menu {
	var m menu
	var e *BootEntry
	title, chosen, titles := "", 0, -1
	end := func() {
		if e != nil {
			if titles == chosen {
				m.chosen = len(m.entries)
			}
			m.add(*e, config)
		}
		e = nil
	}
	for i, line := range t.lines(config) {
		f := strings.Fields(line)
		if len(f) == 1 || len(f) > 1 && f[0] == "default" {
			f = strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '=' })
		}
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "default":
			chosen = leadingNumber(f[1])
		case "title":
			end()
			title, titles = strings.Join(f[1:], " "), titles+1
		case "kernel":
			e = &BootEntry{Title: title, Linux: f[1], Options: strings.Join(f[2:], " "), Line: i + 1}
		case "initrd":
			if e != nil {
				e.Initrds = append(e.Initrds, f[1])
			}
		}
	}
	end()
	return m
}

// extlinuxMenu reads the configuration of the SYSLINUX family: names without a
// leading slash are relative to the configuration's folder.
//
// Source: wiki.syslinux.org, "Config".
func (t *files) extlinuxMenu(config string) menu {
	var m menu
	var e BootEntry
	def := ""
	here := func(name string) string {
		if strings.HasPrefix(name, "/") {
			return name
		}
		return path.Join(path.Dir(config), name)
	}
	end := func() {
		if e.Linux != "" {
			m.add(e, config)
		}
		e = BootEntry{}
	}
	for i, line := range t.lines(config) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "default":
			def = value
		case "label":
			end()
			e.Title = value
		case "kernel", "linux":
			e.Linux, e.Line = here(value), i+1
		case "initrd":
			e.Initrds = hereAll(value, here)
		case "menu": // MENU DEFAULT within an entry
			if strings.EqualFold(value, "default") {
				def = e.Title
			}
		case "append":
			e.Options = value
			for w := range strings.FieldsSeq(value) {
				if names, ok := strings.CutPrefix(w, "initrd="); ok {
					e.Initrds = hereAll(names, here)
				}
			}
		}
	}
	end()
	m.chosen = max(0, slices.IndexFunc(m.entries, func(e BootEntry) bool { return e.Title == def }))
	return m
}

func hereAll(names string, here func(string) string) []string {
	var all []string
	for n := range strings.SplitSeq(names, ",") {
		all = append(all, here(n))
	}
	return all
}

// liloMenu reads lilo.conf, whose names are those of the running guest.
//
// Source: lilo.conf(5).
func (t *files) liloMenu(config string) menu {
	m := menu{fs: "/"}
	var global, e BootEntry
	def := ""
	end := func() {
		if e.Linux == "" {
			global = e
			return
		}
		if e.Initrds == nil {
			e.Initrds = global.Initrds
		}
		m.add(e, config)
	}
	for i, line := range t.lines(config) {
		key, value, _ := assignment(line)
		switch strings.TrimSpace(key) {
		case "default":
			def = value
		case "image":
			end()
			e = BootEntry{Linux: value, Line: i + 1}
		case "label":
			e.Title = value
		case "initrd":
			e.Initrds = []string{value}
		case "append":
			e.Options = value
		}
	}
	if end(); e.Linux == "" {
		return menu{}
	}
	m.chosen = max(0, slices.IndexFunc(m.entries, func(e BootEntry) bool { return e.Title == def }))
	return m
}
