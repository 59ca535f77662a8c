package inspect

import "strings"

// FstabEntry is one line of fstab with its octal escapes undone.
type FstabEntry struct {
	Line    int // from 1
	Spec    string
	Path    string
	Type    string
	Options string
}

// ParseFstab reads an fstab as libmount does: comments and lines of fewer than
// two fields are passed over, missing fields are empty.
//
// Source: fstab(5).
func ParseFstab(data []byte) []FstabEntry {
	var entries []FstabEntry
	for i, line := range splitLines(data) {
		f := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(f) < 2 || f[0][0] == '#' {
			continue
		}
		f = append(f, "", "")
		entries = append(entries, FstabEntry{
			Line: i + 1, Spec: unoctal(f[0]), Path: unoctal(f[1]), Type: unoctal(f[2]), Options: unoctal(f[3]),
		})
	}
	return entries
}

// Has tells whether an option is set, as itself or with a value.
func (e FstabEntry) Has(option string) bool {
	for o := range strings.SplitSeq(e.Options, ",") {
		if name, _, _ := strings.Cut(o, "="); name == option {
			return true
		}
	}
	return false
}

// unoctal undoes \040 and its like; other backslashes stay.
func unoctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := octal(s[i:]); ok {
			b.WriteByte(c)
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) (byte, bool) {
	if len(s) < 4 || s[0] != '\\' || s[1] > '3' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s[1:4]) {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n<<3 | int(c-'0')
	}
	return byte(n), true
}
