package update

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"text/template"
)

// Menu makes the boot entries that BIOS has on an ESP of the images there, which GRUB
// cannot start as they are: their kernels lie beside them. What leads to images that are
// gone is removed. At every moment the entries that are there can be started.
func Menu(folder string) error {
	return esp{folder, func(string) error { return nil }}.menu()
}

func (e esp) menu() error {
	list, err := e.images()
	if err != nil {
		return err
	}
	var entries []menuEntry
	for _, i := range list {
		k, err := openKernel(e.path(i.name()))
		if err != nil {
			return err
		}
		entries = append(entries, k.menu(i.version)...)
		if err := errors.Join(e.unpack(k, i.version), k.close()); err != nil {
			return err
		}
	}
	if err := e.put(menuAt, strings.NewReader(menuText(list, entries))); err != nil {
		return err
	}
	if err := e.keep(trialOf(list)); err != nil { // without which the menu starts nothing that is on trial
		return err
	}
	return e.tidy(list)
}

// trialOf is what GRUB is to know of a trial.
func trialOf(list []image) (b block) {
	for _, i := range list {
		if i.counted {
			return block{trial: i.version, tries: min(i.left, tries)}
		}
	}
	return b
}

// unpack puts a kernel and its initramfs where GRUB finds them.
func (e esp) unpack(k *kernel, version string) error {
	for name, section := range map[string]io.Reader{"linux": content(k.linux), "initrd": content(k.initrd)} {
		at := strings.Join([]string{kernels, version, name}, "/")
		if _, err := os.Stat(e.path(at)); err == nil {
			continue
		}
		if err := e.put(at, section); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes the kernels of images that are gone.
func (e esp) tidy(list []image) error {
	entries, err := os.ReadDir(e.path(kernels))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range entries {
		if _, there := find(list, f.Name()); !there {
			if err := e.remove(kernels + "/" + f.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// menuEntry is one for GRUB. Its ID does not begin with a digit: GRUB would take that for
// the number of an entry.
//
// Source: GRUB, grub-core/normal/menu.c, get_entry_number.
type menuEntry struct{ Title, ID, Version, CommandLine string }

func (k *kernel) menu(version string) (list []menuEntry) {
	for _, e := range k.entries {
		title, id := "hyper2kvm "+version, "hyper2kvm-"+version
		switch e.id {
		case "":
		case trialID:
			continue // GRUB adds the word itself
		default:
			title, id = fmt.Sprintf("%s (%s)", e.title, version), id+"-"+e.id
		}
		list = append(list, menuEntry{Title: quoted(title), ID: quoted(id), Version: version, CommandLine: quotedWords(e.commandLine)})
	}
	return list
}

var menuTemplate = template.Must(template.New("").Parse(`# Made by hyper2kvm of the kernel images in EFI/Linux.
set timeout=3
load_env trial tries
set default='hyper2kvm-{{.First}}'
{{- if .Trial}}
if [ "$trial" != '{{.First}}' -o "$tries" = 0 ]; then
	set default='hyper2kvm-{{.Other}}'
fi
{{- end}}

# count takes one of the tries away from a version that is on trial, and tells it so.
function count {
	set word=
	if [ "$trial" = "$1" ]; then
		set word=hyper2kvm.trial
		if [ "$tries" = 1 ]; then set tries=0; fi
		if [ "$tries" = 2 ]; then set tries=1; fi
		if [ "$tries" = 3 ]; then set tries=2; fi
		save_env tries
	fi
}
{{range .Entries}}
menuentry {{.Title}} --id {{.ID}} {
	count '{{.Version}}'
	linux '/hyper2kvm/{{.Version}}/linux' {{.CommandLine}} $word
	initrd '/hyper2kvm/{{.Version}}/initrd'
}
{{end}}`))

// menuText is GRUB's configuration. What was tried in vain is started no more by itself.
func menuText(list []image, entries []menuEntry) string {
	data := struct {
		First, Other string
		Trial        bool // of the first
		Entries      []menuEntry
	}{Entries: entries}
	if len(list) > 0 {
		data.First = list[0].version
	}
	if len(list) > 1 {
		data.Other, data.Trial = list[1].version, list[0].counted
	}
	var b bytes.Buffer
	if err := menuTemplate.Execute(&b, data); err != nil {
		panic(err) // the template is ours, and so are the data
	}
	return b.String()
}

// plain is what means nothing to GRUB but itself.
var plain = regexp.MustCompile(`^[\w=.,:/@%+-]+$`)

func quotedWords(line string) string {
	words := strings.Fields(line)
	for n, w := range words {
		if !plain.MatchString(w) {
			words[n] = quoted(w)
		}
	}
	return strings.Join(words, " ")
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
