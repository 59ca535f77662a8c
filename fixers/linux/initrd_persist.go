package linux

import (
	"bytes"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
)

// persister enters drivers into the settings of one generator, so that the
// guest's next initrd starts on KVM too.
//
// Source: initramfs-tools(7), /etc/initramfs-tools/modules; dracut.conf(5);
// mkinitcpio.conf(5); SUSE's mkinitrd(8), INITRD_MODULES; Alpine's mkinitfs.
type persister struct {
	generator string
	file      string
	make      bool // where it is absent
	enter     func(old []byte, drivers []string) []byte
}

var persisters = []persister{
	{"initramfs-tools", "/etc/initramfs-tools/modules", true, enterLines},
	{"dracut", "/etc/dracut.conf.d/50-hyper2kvm.conf", true, enterDracut},
	{"mkinitcpio", "/etc/mkinitcpio.conf", false, enterMkinitcpio},
	{"suse-mkinitrd", "/etc/sysconfig/kernel", false, enterSUSE},
	{"mkinitfs", "/etc/mkinitfs/mkinitfs.conf", false, enterFeature},
}

const whyEntered = "# So that every new initrd starts on KVM too."

// persistAll enters the drivers into the settings of the guest's generators.
func (p *initrdPlan) persistAll() error {
	for _, s := range persisters {
		drivers := p.persist[s.generator]
		if len(drivers) == 0 {
			continue
		}
		old, err := p.view.ReadFile(s.file, guest.MaxText)
		if errors.Is(err, fs.ErrNotExist) && !s.make {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := p.view.Write(s.file, s.enter(old, drivers)); err != nil {
			return err
		}
	}
	return nil
}

// enterLines appends what is not in a list of one name a line.
func enterLines(old []byte, drivers []string) []byte {
	var have []string
	for _, line := range splitLines(old) {
		if parts := fields(line); len(parts) > 0 {
			have = append(have, parts[0].of(line))
		}
	}
	lacking := without(drivers, have)
	if len(lacking) == 0 {
		return old
	}
	return appendLines(old, append([]string{whyEntered}, lacking...)...)
}

// enterDracut writes a file of our own. The blanks inside the quotes are part of
// the syntax.
func enterDracut(_ []byte, drivers []string) []byte {
	return []byte(whyEntered + "\nadd_drivers+=\" " + strings.Join(drivers, " ") + " \"\n")
}

var mkinitcpioModules = regexp.MustCompile(`(?m)^[ \t]*MODULES\+?=(.)`)

// enterMkinitcpio adds to MODULES what no line names, in the form that the file
// has: an array, or in old ones a string.
func enterMkinitcpio(old []byte, drivers []string) []byte {
	var have []string
	for _, line := range splitLines(old) {
		text, _, _ := strings.Cut(line, "#")
		have = append(have, strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \t\r\n\"'()=", c) })...)
	}
	lacking := without(drivers, have)
	if len(lacking) == 0 {
		return old
	}
	names := strings.Join(lacking, " ")
	if m := mkinitcpioModules.FindSubmatch(old); m != nil && m[1][0] != '(' {
		return appendLines(old, whyEntered, `MODULES="$MODULES `+names+`"`)
	}
	return appendLines(old, whyEntered, "MODULES+=("+names+")")
}

var (
	suseModules = regexp.MustCompile(`(?m)^[ \t]*INITRD_MODULES="([^"\n]*)"`)
	features    = regexp.MustCompile(`(?m)^[ \t]*features="([^"\n]*)"`)
)

func enterSUSE(old []byte, drivers []string) []byte { return addWords(old, suseModules, drivers) }

// enterFeature names the set of files that has virtio's drivers.
func enterFeature(old []byte, _ []string) []byte { return addWords(old, features, []string{"virtio"}) }

// addWords adds the words that are lacking in what a pattern's group matches.
func addWords(old []byte, pattern *regexp.Regexp, words []string) []byte {
	m := pattern.FindSubmatchIndex(old)
	if m == nil {
		return old
	}
	text := string(old)
	have := span{m[2], m[3]}.of(text)
	for _, word := range without(words, strings.Fields(have)) {
		have = strings.TrimLeft(have+" "+word, " ")
	}
	return []byte(span{m[2], m[3]}.replace(text, have))
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// appendLines adds lines with the text's own line ends.
func appendLines(old []byte, lines ...string) []byte {
	end := lineEnd(old)
	if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
		old = append(old, end...)
	}
	return append(old, strings.Join(lines, end)+end...)
}
