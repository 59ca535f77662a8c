package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// catalogue is what the indexes of a kernel's modules say.
type catalogue struct {
	tree    ModuleTree
	prefix  string              // of the paths in modules.dep
	order   []string            // module names in the order of modules.dep
	deps    map[string]depLine  // by module name
	builtin map[string]bool     // names of what the kernel itself contains
	soft    map[string][]string // what should be loaded before, by module name
	aliases []indexLine
}

// depLine is a line of modules.dep.
type depLine struct {
	path string   // below the version's folder
	deps []string // paths, the last to be loaded first
}

// indexLine is a line of modules.alias, modules.symbols, modules.softdep and
// their like.
type indexLine struct {
	text   string
	fields []string
	module string
}

func readCatalogue(tree ModuleTree, version string) (*catalogue, error) {
	dep, err := tree.ReadFile("modules.dep", keptIndex)
	if err != nil {
		return nil, fmt.Errorf("modules of kernel %s: %w", version, err)
	}
	c := &catalogue{tree: tree, builtin: map[string]bool{}, soft: map[string][]string{}}
	if bytes.HasPrefix(dep, []byte("/")) {
		c.prefix = "/lib/modules/" + version + "/"
	}
	c.order, c.deps = parseDep(dep, version)
	builtin, err := c.optional("modules.builtin")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(builtin)) {
		c.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	soft, err := c.optional("modules.softdep")
	if err != nil {
		return nil, err
	}
	for _, l := range parseIndex(soft, softdepModule) {
		c.soft[l.module] = append(c.soft[l.module], before(l.fields[2:])...)
	}
	alias, err := c.optional("modules.alias")
	if err != nil {
		return nil, err
	}
	c.aliases = parseIndex(alias, aliasModule)
	return c, nil
}

// optional reads an index that old kernels and small ones lack.
func (c *catalogue) optional(name string) ([]byte, error) {
	data, err := c.tree.ReadFile(name, keptIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// parseDep reads modules.dep. Before module-init-tools 3.4 its paths were
// absolute, and had to be. Lines that lead outside the version's folder are left out.
func parseDep(data []byte, version string) (order []string, deps map[string]depLine) {
	deps = map[string]depLine{}
	for line := range strings.Lines(string(data)) {
		file, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		d := depLine{path: below(file, version)}
		if !ok || !fs.ValidPath(d.path) {
			continue
		}
		for _, dep := range strings.Fields(rest) {
			d.deps = append(d.deps, below(dep, version))
		}
		name := moduleName(d.path)
		if _, twice := deps[name]; !twice {
			order = append(order, name)
		}
		deps[name] = d
	}
	return order, deps
}

func below(file, version string) string {
	if _, rest, ok := strings.Cut(file, "/lib/modules/"+version+"/"); ok {
		return rest
	}
	return file
}

// parseIndex reads the lines of an index that name a module.
func parseIndex(data []byte, module func(fields []string) string) []indexLine {
	var lines []indexLine
	for line := range strings.Lines(string(data)) {
		l := indexLine{text: strings.TrimSpace(line), fields: strings.Fields(line)}
		if strings.HasPrefix(l.text, "#") {
			continue
		}
		if l.module = normal(module(l.fields)); l.module != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

// aliasModule: alias ALIAS MODULE, also in modules.symbols.
func aliasModule(f []string) string {
	if len(f) == 3 && f[0] == "alias" {
		return f[2]
	}
	return ""
}

// softdepModule: softdep MODULE pre: … post: …, and weakdep MODULE ….
func softdepModule(f []string) string {
	if len(f) >= 3 && (f[0] == "softdep" || f[0] == "weakdep") {
		return f[1]
	}
	return ""
}

// devnameModule: MODULE NODE TYPE:MAJOR:MINOR.
func devnameModule(f []string) string {
	if len(f) == 3 {
		return f[0]
	}
	return ""
}

// before returns what a softdep wants loaded first.
func before(fields []string) []string {
	var names []string
	pre := false
	for _, f := range fields {
		switch {
		case f == "pre:":
			pre = true
		case strings.HasSuffix(f, ":"):
			pre = false
		case pre:
			names = append(names, f)
		}
	}
	return names
}

// moduleName is the name that the kernel gives to a module file.
func moduleName(file string) string {
	name := path.Base(file)
	for _, suffix := range []string{".gz", ".xz", ".zst"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return normal(strings.TrimSuffix(name, ".ko"))
}

func isModule(file string) bool {
	return strings.HasSuffix(plain(file), ".ko")
}

// plain is a module's file name when it is not compressed.
func plain(file string) string {
	for _, suffix := range []string{".ko.gz", ".ko.xz", ".ko.zst"} {
		if strings.HasSuffix(file, suffix) {
			return strings.TrimSuffix(file, path.Ext(file))
		}
	}
	return file
}

// normal writes a module's name with underscores, as the kernel does.
func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// named returns the modules that a softdep means: a module or an alias.
func (c *catalogue) named(name string) []string {
	name = normal(name)
	if _, ok := c.deps[name]; ok || c.builtin[name] {
		return []string{name}
	}
	var names []string
	for _, l := range c.aliases {
		if ok, err := path.Match(normalAlias(l.fields[1]), name); ok && err == nil {
			names = append(names, l.module)
		}
	}
	return names
}

// closure returns the wanted modules and all that must be, or with soft set
// should be, loaded before them, in load order, without built-in ones.
func (c *catalogue) closure(want []string, soft bool) []string {
	seen := map[string]bool{}
	var order []string
	var visit func(name string)
	visit = func(name string) {
		if seen[name] || c.builtin[name] {
			return
		}
		seen[name] = true
		if soft {
			for _, s := range c.soft[name] {
				for _, n := range c.named(s) {
					visit(n)
				}
			}
		}
		for _, dep := range slices.Backward(c.deps[name].deps) {
			visit(moduleName(dep))
		}
		order = append(order, name)
	}
	for _, name := range want {
		visit(normal(name))
	}
	return order
}

// read returns a module as the kernel loads it: decompressed, signature kept.
func (c *catalogue) read(file string) ([]byte, error) {
	data, err := c.tree.ReadFile(file, moduleLimit)
	if err != nil {
		return nil, err
	}
	if data, err = unpackModule(path.Ext(file), data); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if !bytes.HasPrefix(data, []byte("\x7fELF")) {
		return nil, fmt.Errorf("%s is not a module", file)
	}
	return data, nil
}

func unpackModule(suffix string, data []byte) ([]byte, error) {
	switch suffix {
	case ".gz":
		r, err := gzip.NewReader(newBytes(data))
		if err != nil {
			return nil, err
		}
		return bounded(r)
	case ".xz":
		p, err := openXZ(data)
		if err != nil {
			return nil, err
		}
		return bounded(p)
	case ".zst":
		r, err := zstd.NewReader(newBytes(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return bounded(r)
	}
	return data, nil
}

func bounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(guarded{r}, moduleLimit+1))
	if err == nil && len(data) > moduleLimit {
		err = fmt.Errorf("%w: module of more than %d bytes", ErrLimit, moduleLimit)
	}
	return data, err
}
