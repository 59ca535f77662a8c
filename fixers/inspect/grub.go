package inspect

import (
	"strconv"
	"strings"
)

// BootEntry is one kernel in a boot loader's menu, with names as they stand
// there: relative to the file system that the loader reads.
type BootEntry struct {
	Title   string
	ID      string // what a default names it by
	Version string // of the kernel, when the menu says it
	Path    []int  // its number in the menu, and in the menus within; from 0
	Linux   string
	Initrds []string
	Options string
	Line    int // of the kernel, from 1
	// Of the boot loader specification alone.
	SortKey string
	Machine string // ID
	Program bool   // Linux is an EFI program: a unified image, or no kernel at all
}

// GrubMenu is what a GRUB configuration offers.
type GrubMenu struct {
	Entries []BootEntry // in order, those in submenus too
	Default string      // as it is set: "0", "1>2", a title, an ID, "${saved_entry}", ""
	BLS     bool        // it also offers the entries in loader/entries
}

// ParseGrubCfg reads the menu of a grub.cfg. It is no shell: of the conditions
// around an entry it takes none, so that every entry counts, and of several
// defaults the last one that is not for one boot alone.
//
// Source: GRUB's manual, "Writing full configuration files directly".
func ParseGrubCfg(data []byte) GrubMenu {
	p := grubParser{counts: []int{0}}
	for i, line := range splitLines(data) {
		if words := grubWords(line); len(words) > 0 {
			p.line(i+1, words)
		}
	}
	return p.menu
}

// grubParser walks over blocks; only those of menus count.
type grubParser struct {
	menu   GrubMenu
	blocks []string // kinds of the open blocks: menuentry, submenu, or other
	counts []int    // how many items each open menu has so far
	entry  *BootEntry
}

func (p *grubParser) line(number int, words []string) {
	switch word := words[0]; {
	case word == "menuentry" || word == "submenu":
		p.open(word, words)
	case word == "}":
		p.close()
	case p.entry != nil && isLinux(word) && len(words) > 1 && p.entry.Linux == "":
		p.entry.Linux, p.entry.Options, p.entry.Line = words[1], strings.Join(words[2:], " "), number
	case p.entry != nil && isInitrd(word):
		p.entry.Initrds = append(p.entry.Initrds, words[1:]...)
	case word == "set" && len(words) > 1:
		p.set(words[1])
	case strings.HasPrefix(word, "default="):
		p.set(word)
	case word == "blscfg":
		p.menu.BLS = true
	case words[len(words)-1] == "{":
		p.blocks = append(p.blocks, "other")
	}
}

func isLinux(word string) bool {
	return word == "linux" || word == "linux16" || word == "linuxefi"
}

func isInitrd(word string) bool {
	return word == "initrd" || word == "initrd16" || word == "initrdefi"
}

// open begins a menu entry or a submenu. Such a line ends with the brace; one
// that holds a whole entry counts, but no distribution writes such kernels.
func (p *grubParser) open(kind string, words []string) {
	last := words[len(words)-1]
	if last == "}" {
		p.counts[len(p.counts)-1]++
		return
	}
	if last != "{" || p.entry != nil || len(p.counts) > 8 {
		p.blocks = append(p.blocks, "other")
		return
	}
	p.blocks = append(p.blocks, kind)
	if kind == "submenu" {
		p.counts = append(p.counts, 0)
		return
	}
	p.entry = &BootEntry{Path: append([]int{}, p.counts...)}
	if len(words) > 2 {
		p.entry.Title = words[1]
	}
	for i, w := range words {
		if (w == "--id" || w == "$menuentry_id_option") && i+2 < len(words) {
			p.entry.ID = words[i+1]
		}
	}
}

// close ends the innermost block. An entry without a kernel still has a number.
func (p *grubParser) close() {
	if len(p.blocks) == 0 {
		return
	}
	kind := p.blocks[len(p.blocks)-1]
	p.blocks = p.blocks[:len(p.blocks)-1]
	switch kind {
	case "menuentry":
		if p.entry.Linux != "" {
			p.menu.Entries = append(p.menu.Entries, *p.entry)
		}
		p.entry = nil
	case "submenu":
		p.counts = p.counts[:len(p.counts)-1]
	default:
		return
	}
	p.counts[len(p.counts)-1]++
}

// set takes the default; next_entry is that of one boot.
func (p *grubParser) set(assignment string) {
	value, ok := strings.CutPrefix(assignment, "default=")
	if ok && !strings.Contains(value, "next_entry") {
		p.menu.Default = value
	}
}

// grubWords splits a line as GRUB's shell does, quotes removed and the comment
// left out. A ";" ends a command: what follows it on the line is not read.
func grubWords(line string) []string {
	var words []string
	var word strings.Builder
	started, quote := false, byte(0)
	end := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c == '\'' || quote == '"' && c == '"':
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			started = true
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, started = c, true
		case c == ' ' || c == '\t':
			end()
		case c == '#' && !started:
			return words
		case c == ';':
			end()
			return words
		default:
			word.WriteByte(c)
			started = true
		}
	}
	end()
	return words
}

// pick finds the entry that a default names, by number, title or ID; the first
// one when it names none, as GRUB does.
func pick(entries []BootEntry, name string) int {
	name = strings.TrimSpace(name)
	last := name[strings.LastIndexByte(name, '>')+1:]
	for i, e := range entries {
		if numbered(e.Path) == name {
			return i
		}
	}
	for i, e := range entries {
		if last != "" && (e.ID == last || e.Title == last) {
			return i
		}
	}
	return 0
}

// numbered writes a place in the menus as GRUB does: 1>2.
func numbered(path []int) string {
	var parts []string
	for _, n := range path {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ">")
}

// grubenv reads a variable of GRUB's environment block.
func (t *files) grubenv(name string, files ...string) string {
	for _, file := range files {
		for _, l := range t.lines(file) {
			if key, value, ok := strings.Cut(l, "="); ok && key == name {
				return value
			}
		}
	}
	return ""
}
