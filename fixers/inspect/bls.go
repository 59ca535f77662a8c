package inspect

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
)

// blsMenu reads boot loader specification entries, the newest first. A path is
// relative to the file system that the entries are on. Keys are followed by
// blanks or tabs.
//
// Source: uapi-group.org, "Boot Loader Specification", type 1.
func (t *files) blsMenu(dir string) menu {
	var m menu
	files := t.glob(dir + "/*.conf")
	slices.SortFunc(files, func(a, b string) int { return compareVersions(b, a) })
	for _, file := range files {
		data, ok := t.read(file, maxConfig)
		if !ok {
			continue
		}
		if e := parseBLS(data); e.Linux != "" {
			e.ID = strings.TrimSuffix(path.Base(file), ".conf")
			m.add(e, file)
		}
	}
	return m
}

// parseBLS reads one entry.
func parseBLS(data []byte) BootEntry {
	var e BootEntry
	var options []string
	for i, line := range splitLines(data) {
		line = strings.TrimSpace(line)
		key := line
		if end := strings.IndexAny(line, " \t"); end > 0 {
			key = line[:end]
		}
		switch value := strings.TrimSpace(line[len(key):]); key {
		case "version":
			e.Version = value
		case "title":
			e.Title = value
		case "sort-key":
			e.SortKey = value
		case "machine-id":
			e.Machine = value
		case "linux":
			e.Linux, e.Line = value, i+1
		case "uki", "efi":
			e.Linux, e.Line, e.Program = value, i+1, true
		case "initrd":
			e.Initrds = append(e.Initrds, strings.Fields(value)...)
		case "options":
			options = append(options, value)
		}
	}
	e.Options = strings.Join(options, " ")
	return e
}

// named finds the BLS entry that a default names: by number, by its file's
// name, which may be a pattern, or the first.
func (m menu) named(name string) int {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < len(m.entries) {
		return n
	}
	for i, e := range m.entries {
		if ok, err := path.Match(strings.TrimSuffix(name, ".conf"), e.ID); err == nil && ok {
			return i
		}
	}
	return 0
}

// compareVersions orders names with numbers in them as people do: 5.9 before
// 5.14.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		pa, pb := piece(a), piece(b)
		a, b = a[len(pa):], b[len(pb):]
		na, nb := strings.TrimLeft(pa, "0"), strings.TrimLeft(pb, "0")
		if isDigit(pa[0]) && isDigit(pb[0]) && len(na) != len(nb) {
			return cmp.Compare(len(na), len(nb))
		}
		if c := cmp.Compare(na, nb); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// piece is the digits, or the other characters, that s begins with.
func piece(s string) string {
	for i := range len(s) {
		if isDigit(s[i]) != isDigit(s[0]) {
			return s[:i]
		}
	}
	return s
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
