package initrd

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// moduleRoots are the folders in which modprobe looks; most guests have one.
var moduleRoots = []string{"lib/modules", "usr/lib/modules"}

// moduleLimit bounds a module, packed or not; amdgpu has 30 MB.
const moduleLimit = 128 << 20

// ModuleTree is the guest's own /lib/modules/<version>.
type ModuleTree interface {
	// ReadFile returns the file at a slash-separated path below the version's
	// folder. A missing one gives an error that wraps fs.ErrNotExist; one of
	// more than limit bytes gives an error too.
	ReadFile(name string, limit int64) ([]byte, error)
}

// Modules returns the names of the modules inside for a kernel, sorted, with
// underscores.
func (i *Initrd) Modules(version string) []string {
	var names []string
	for name := range i.modules(version) {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// modules maps the names of the modules inside to their paths below the
// version's folder. Of two of the same name the initrd's own index decides.
func (i *Initrd) modules(version string) map[string]string {
	found := map[string]string{}
	dir, ok := i.modulesDir(version)
	if !ok {
		return found
	}
	_, own := parseDep(i.index(version, "modules.dep"), version)
	i.tree.below(dir, func(file string, n *node) {
		if !isModule(file) || !n.regular() && !n.is(typeLink) || !i.Has(file) {
			return
		}
		rel := strings.TrimPrefix(file, dir+"/")
		name := moduleName(rel)
		if _, twice := found[name]; !twice || own[name].path == rel {
			found[name] = rel
		}
	})
	return found
}

// modulesDir is the resolved folder of a kernel's modules, where they are or
// would have to be.
func (i *Initrd) modulesDir(version string) (string, bool) {
	if !fs.ValidPath(version) || strings.Contains(version, "/") || version == "." {
		return "", false
	}
	for _, root := range moduleRoots {
		at, ok := i.tree.walk(path.Join(root, version), true)
		if ok && at.node != nil && at.node.is(typeDir) {
			return at.path, true
		}
	}
	return i.Resolve(path.Join(moduleRoots[0], version))
}

// index returns one of the initrd's own indexes, or nothing.
func (i *Initrd) index(version, name string) []byte {
	dir, ok := i.modulesDir(version)
	if !ok {
		return nil
	}
	data, err := i.ReadFile(path.Join(dir, name))
	if err != nil {
		return nil // it is rebuilt from the guest's own indexes
	}
	return data
}

// Missing tells which of the wanted modules the initrd cannot load, because they
// or what they depend on is neither inside nor built into the kernel; and apart,
// which ones the kernel does not have at all. Names come back with underscores
// in the order asked for. The tree is that of the same kernel version; it must
// have modules.dep.
func (i *Initrd) Missing(tree ModuleTree, version string, want []string) (missing, absent []string, err error) {
	c, err := readCatalogue(tree, version)
	if err != nil {
		return nil, nil, err
	}
	missing, absent = i.missing(c, i.modules(version), want)
	return missing, absent, nil
}

func (i *Initrd) missing(c *catalogue, inside map[string]string, want []string) (missing, absent []string) {
	for _, name := range want {
		name = normal(name)
		_, here := inside[name]
		_, known := c.deps[name]
		switch {
		case !here && !known && !c.builtin[name]:
			absent = append(absent, name)
		case slices.ContainsFunc(c.closure([]string{name}, false), lacks(inside)):
			missing = append(missing, name)
		}
	}
	return missing, absent
}

func lacks(inside map[string]string) func(string) bool {
	return func(name string) bool {
		_, ok := inside[name]
		return !ok
	}
}
