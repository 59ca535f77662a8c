package initrd

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// union is the modules that an initrd and its supplement have together.
type union struct {
	*catalogue
	initrd  *Initrd
	version string
	paths   map[string]string // below the version's folder, by module name
	rank    map[string]uint32 // the kernel's own order, which modprobe keeps
}

// indexes returns the files that modprobe needs to find the union's modules:
// text for busybox, tries for kmod, each by its name in the version's folder.
func (u *union) indexes() (map[string][]byte, error) {
	u.rank = map[string]uint32{}
	for n, name := range u.order {
		u.rank[name] = uint32(n)
	}
	out := map[string][]byte{}
	u.dep(out)
	for _, x := range []struct {
		name   string
		module func([]string) string
		trie   bool
	}{
		{"modules.alias", aliasModule, true},
		{"modules.symbols", aliasModule, true},
		{"modules.softdep", softdepModule, false},
		{"modules.weakdep", softdepModule, false},
		{"modules.devname", devnameModule, false},
	} {
		if err := u.filtered(out, x.name, x.module, x.trie); err != nil {
			return nil, err
		}
	}
	return out, u.builtins(out)
}

// dep writes modules.dep with the paths that the union really has: the initrd's
// modules may be compressed, the supplement's are not.
func (u *union) dep(out map[string][]byte) {
	_, own := parseDep(u.initrd.index(u.version, "modules.dep"), u.version)
	var text bytes.Buffer
	var entries []trieEntry
	for _, name := range u.names() {
		d, ok := u.deps[name]
		if !ok {
			d = own[name]
		}
		line := u.prefix + u.paths[name] + ":"
		for _, dep := range d.deps {
			if file, ok := u.paths[moduleName(dep)]; ok {
				line += " " + u.prefix + file
			}
		}
		text.WriteString(line + "\n")
		entries = append(entries, trieEntry{name, line, u.rank[name]})
	}
	out["modules.dep"], out["modules.dep.bin"] = text.Bytes(), encodeTrie(entries)
}

// names lists the union in the kernel's order; modules that the guest's index
// does not know come last.
func (u *union) names() []string {
	var names, unknown []string
	for _, name := range u.order {
		if _, ok := u.paths[name]; ok {
			names = append(names, name)
		}
	}
	for name := range u.paths {
		if _, ok := u.deps[name]; !ok {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return append(names, unknown...)
}

// filtered writes the lines of the guest's index that are about the union's
// modules, and of the initrd's own index those about modules that the guest's
// does not know.
func (u *union) filtered(out map[string][]byte, index string, module func([]string) string, trie bool) error {
	theirs, err := u.optional(index)
	if err != nil {
		return err
	}
	mine := u.initrd.index(u.version, index)
	if theirs == nil && mine == nil {
		return nil
	}
	lines := slices.DeleteFunc(parseIndex(theirs, module), func(l indexLine) bool {
		return u.paths[l.module] == ""
	})
	for _, l := range parseIndex(mine, module) {
		if _, known := u.deps[l.module]; !known && u.paths[l.module] != "" {
			lines = append(lines, l)
		}
	}
	var text bytes.Buffer
	var entries []trieEntry
	for _, l := range lines {
		text.WriteString(l.text + "\n")
		if trie {
			entries = append(entries, trieEntry{normalAlias(l.fields[1]), l.fields[2], u.rank[l.module]})
		}
	}
	out[index] = text.Bytes()
	if trie {
		out[index+".bin"] = encodeTrie(entries)
	}
	return nil
}

// normalAlias writes an alias with underscores, except within brackets, as
// modprobe looks it up (kmod, shared/util.c, alias_normalize). An alias with
// unmatched brackets becomes "", which no index has.
func normalAlias(alias string) string {
	var out strings.Builder
	for alias != "" {
		plain, rest, bracket := strings.Cut(alias, "[")
		if strings.Contains(plain, "]") {
			return ""
		}
		out.WriteString(normal(plain))
		if !bracket {
			break
		}
		class, after, closed := strings.Cut(rest, "]")
		if !closed {
			return ""
		}
		out.WriteString("[" + class + "]")
		alias = after
	}
	return out.String()
}

// builtins adds what the initrd lacks of the indexes of built-in modules; those
// that it has are right, since the kernel is the same.
func (u *union) builtins(out map[string][]byte) error {
	text, err := u.optional("modules.builtin")
	if err != nil {
		return err
	}
	if text != nil {
		out["modules.builtin"] = text
		out["modules.builtin.bin"] = encodeTrie(u.builtinEntries())
	}
	info, err := u.optional("modules.builtin.modinfo")
	if err != nil {
		return err
	}
	if info != nil {
		out["modules.builtin.modinfo"] = info
		out["modules.builtin.alias.bin"] = encodeTrie(builtinAliases(info))
	}
	dir, _ := u.initrd.modulesDir(u.version)
	for name := range out {
		if strings.HasPrefix(name, "modules.builtin") && u.initrd.Has(path.Join(dir, name)) {
			delete(out, name)
		}
	}
	return nil
}

func (u *union) builtinEntries() []trieEntry {
	var entries []trieEntry
	for name := range u.builtin {
		entries = append(entries, trieEntry{key: name})
	}
	return entries
}

// builtinAliases reads modules.builtin.modinfo: MODULE.KEY=VALUE, each ended by
// a zero byte.
func builtinAliases(info []byte) []trieEntry {
	var entries []trieEntry
	for record := range strings.SplitSeq(string(info), "\x00") {
		module, rest, _ := strings.Cut(record, ".")
		if alias, ok := strings.CutPrefix(rest, "alias="); ok && module != "" {
			entries = append(entries, trieEntry{key: normalAlias(alias), value: module})
		}
	}
	return entries
}
