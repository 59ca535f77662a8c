package inspect

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
)

// MdadmConfigs are where mdadm has its settings: on Debian, and elsewhere.
//
// Source: mdadm.conf(5).
var MdadmConfigs = []string{"/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"}

// MdadmLine is one line of mdadm's settings, with those that go on with it.
type MdadmLine struct {
	Line    int // from 1
	Keyword string
	Words   []string // behind the keyword
}

// ParseMdadm reads mdadm's settings: a line that begins with a blank goes on with
// the one before it, and a word that begins with # ends a line.
//
// Source: mdadm.conf(5); mdadm config.c, conf_line.
func ParseMdadm(data []byte) []MdadmLine {
	var lines []MdadmLine
	for i, text := range splitLines(data) {
		words := strings.Fields(text)
		if n := slices.IndexFunc(words, func(w string) bool { return w[0] == '#' }); n >= 0 {
			words = words[:n]
		}
		switch goesOn := text != "" && (text[0] == ' ' || text[0] == '\t'); {
		case len(words) == 0:
		case goesOn && len(lines) > 0:
			last := &lines[len(lines)-1]
			last.Words = append(last.Words, words...)
		default:
			lines = append(lines, MdadmLine{i + 1, words[0], words[1:]})
		}
	}
	return lines
}

// Is tells whether the line is of a kind. Three letters are enough, in any case.
func (l MdadmLine) Is(keyword string) bool {
	return len(l.Keyword) >= 3 && len(l.Keyword) <= len(keyword) && strings.EqualFold(l.Keyword, keyword[:len(l.Keyword)])
}

// aliases are the names that the guest's configuration gives to volumes.
func (t *files) aliases(f Facts) []Alias {
	var all []Alias
	for _, file := range MdadmConfigs {
		data, ok := t.read(file, maxConfig)
		if !ok {
			continue
		}
		for _, l := range ParseMdadm(data) {
			if !l.Is("ARRAY") || len(l.Words) == 0 || len(all) >= maxFiles {
				continue
			}
			if device, ok := f.arrayOf(l.Words); ok {
				all = append(all, names(l.Words[0], device, fmt.Sprintf("%s:%d", file, l.Line))...)
			}
		}
	}
	return all
}

// arrayOf finds the array that an ARRAY line tells of: all that it says must be true
// of it, and of no other.
func (f Facts) arrayOf(words []string) (device string, ok bool) {
	var found []string
	for _, v := range f.Topology.Volumes {
		if v.Array != nil && described(v, words) {
			found = append(found, v.Name)
		}
	}
	return only(found)
}

func described(v guest.Volume, words []string) bool {
	told := false
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch value = unquote(value); strings.ToLower(key) {
		case "uuid":
			if digits(value) != digits(v.UUID) {
				return false
			}
		case "name":
			_, local, _ := strings.Cut(v.Array.Name, ":")
			if value != v.Array.Name && value != local {
				return false
			}
		case "super-minor":
			if value != fmt.Sprint(v.Array.Minor) {
				return false
			}
		default:
			continue
		}
		told = true
	}
	return told
}

// digits is a UUID without what is between its digits.
func digits(uuid string) string {
	return strings.ToLower(strings.NewReplacer(":", "", "-", "", ".", "").Replace(uuid))
}

// names are those that a name in an ARRAY line leads to: md0 is 0 in the folder md,
// and what is no path is below that.
func names(name, device, source string) []Alias {
	if strings.Contains(name, "=") || name == "<none>" || name == "<ignore>" {
		return nil
	}
	if !strings.HasPrefix(name, "/") {
		name = path.Join("/dev/md", strings.TrimPrefix(name, "md"))
	}
	all := []Alias{{name, device, source}}
	if number, ok := strings.CutPrefix(name, "/dev/md"); ok && isNumber(number) {
		all = append(all, Alias{"/dev/md/" + number, device, source})
	}
	if number, ok := strings.CutPrefix(name, "/dev/md/"); ok && isNumber(number) {
		all = append(all, Alias{"/dev/md" + number, device, source})
	}
	return all
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
