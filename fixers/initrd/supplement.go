package initrd

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Supplement is what to append to an initrd. It is undone by truncating the
// initrd to Offset bytes.
type Supplement struct {
	Offset      int64    // bytes of the initrd as it was
	Bytes       []byte   // to append, padding in front included; empty when nothing is missing
	Compression string   // none, gzip, xz, lz4 or zstd
	Modules     []string // that it brings, in load order
	Load        []string // names that it adds to a load list
	LoadList    string   // file that makes the initrd load the modules; "" when its generator has none
	Files       []string // all files that it brings, sorted
}

// supplementLimit bounds the modules of a supplement: those of virtio and what
// they depend on have a megabyte, and a boot partition is small.
const supplementLimit = 32 << 20

// Supplement makes the member that lets the initrd load the wanted modules and
// in which the files of override have the given contents.
//
// It brings those of the wanted modules, and of the modules to be loaded before
// them, that are not inside: decompressed, signatures kept, from the tree of the
// same kernel version; indexes for the modules inside and its own; and a load
// list merged into the initrd's. Modules that the kernel does not have (see
// Missing) are left out. Names in override are relative to the initrd's root and
// may lead through its symlinks; what has these contents already is left out.
// The same input makes the same bytes.
//
// It fails with ErrNested when the files that count are out of its reach, and
// with ErrLimit when the modules are larger than any that it is meant to bring.
func (i *Initrd) Supplement(tree ModuleTree, version string, want []string, override map[string][]byte) (*Supplement, error) {
	if len(i.Nested) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrNested, strings.Join(i.Nested, ", "))
	}
	s := &Supplement{Offset: i.Size}
	a := &additions{initrd: i, files: map[string][]byte{}}
	if len(want) > 0 {
		if err := s.bring(a, tree, version, want); err != nil {
			return nil, err
		}
	}
	for name, data := range override {
		if old, err := i.ReadFile(name); err == nil && bytes.Equal(old, data) {
			continue
		}
		if file, ok := i.Resolve(name); ok && file == s.LoadList {
			return nil, fmt.Errorf("%q is the load list: name its modules as wanted ones", name)
		}
		if err := a.add(name, data); err != nil {
			return nil, err
		}
	}
	if len(a.files) == 0 {
		return s, nil
	}
	archive, err := a.archive()
	if err != nil {
		return nil, err
	}
	s.Files = slices.Sorted(maps.Keys(a.files))
	s.Bytes, s.Compression, err = pack(archive, i.Members[len(i.Members)-1].Compression, i.Size)
	return s, err
}

// bring adds the modules that are missing, with indexes and load list.
func (s *Supplement) bring(a *additions, tree ModuleTree, version string, want []string) error {
	dir, ok := a.initrd.modulesDir(version)
	if !ok {
		return fmt.Errorf("initrd has no place for modules of kernel %q", version)
	}
	c, err := readCatalogue(tree, version)
	if err != nil {
		return err
	}
	inside := a.initrd.modules(version)
	if missing, _ := a.initrd.missing(c, inside, want); len(missing) == 0 {
		return nil
	}
	var size int64
	for _, name := range c.closure(want, true) {
		d, known := c.deps[name]
		if _, ok := inside[name]; ok || !known {
			continue
		}
		data, err := c.read(d.path)
		if err != nil {
			return fmt.Errorf("module %s of kernel %s: %w", name, version, err)
		}
		if size += int64(len(data)); size > supplementLimit {
			return fmt.Errorf("%w: modules of more than %d bytes", ErrLimit, supplementLimit)
		}
		inside[name] = plain(d.path)
		s.Modules = append(s.Modules, name)
		if err := a.add(path.Join(dir, plain(d.path)), data); err != nil {
			return err
		}
	}
	u := &union{catalogue: c, initrd: a.initrd, version: version, paths: inside}
	indexes, err := u.indexes()
	if err != nil {
		return err
	}
	for name, data := range indexes {
		if err := a.add(path.Join(dir, name), data); err != nil {
			return err
		}
	}
	return s.load(a, inside, want)
}

// load enters the wanted modules in the load list of the initrd's generator, also
// those that were inside already: what loads them there may be bound to the old
// hardware.
func (s *Supplement) load(a *additions, inside map[string]string, want []string) error {
	list, ok := a.initrd.loadList()
	if !ok {
		return nil
	}
	s.LoadList = list.file
	old, err := a.initrd.existing(list.file)
	if err != nil {
		return err
	}
	for _, name := range want {
		name = normal(name)
		if _, ok := inside[name]; ok && !list.has(old, name) && !slices.Contains(s.Load, name) {
			s.Load = append(s.Load, name)
		}
	}
	if len(s.Load) == 0 {
		return nil
	}
	return a.add(list.file, list.append(old, s.Load))
}

// additions are files to be added to an initrd, by resolved path.
type additions struct {
	initrd *Initrd
	files  map[string][]byte
}

// add enters a file. Its folders are resolved through the initrd's symlinks; the
// file itself replaces a symlink of its name.
func (a *additions) add(name string, data []byte) error {
	at, ok := a.initrd.tree.walk(name, false)
	switch {
	case !ok || at.base == "":
		return fmt.Errorf("%q leads to no place in the initrd", name)
	case at.node != nil && at.node.is(typeDir):
		return fmt.Errorf("%q is a folder in the initrd", name)
	}
	a.files[at.path] = data
	return nil
}

// archive writes the files and those of their folders that the initrd lacks: a
// folder entry over a symlink would make the kernel unlink the symlink
// (init/initramfs.c, clean_path).
func (a *additions) archive() ([]byte, error) {
	var out archiver
	made := map[string]bool{"": true}
	for _, name := range slices.Sorted(maps.Keys(a.files)) {
		for _, dir := range parents(name) {
			if made[dir] || a.initrd.Has(dir) {
				continue
			}
			if _, ok := a.files[dir]; ok {
				return nil, fmt.Errorf("%q is to be a file and a folder", dir)
			}
			made[dir] = true
			out.add(dir, typeDir|0o755, nil)
		}
		a.file(&out, name)
	}
	return out.close(), nil
}

// file writes a file with the mode that it had. A hard link is first replaced by
// a symlink, which the kernel then unlinks for the file: writing to it would
// change all its names, and dracut links whatever is equal.
func (a *additions) file(out *archiver, name string) {
	mode := uint32(typeReg | 0o644)
	if at, ok := a.initrd.tree.walk(name, false); ok && at.node != nil && at.node.regular() {
		mode = at.node.mode
		if at.node.names > 1 {
			out.add(name, typeLink|0o777, []byte("."))
		}
	}
	out.add(name, mode, a.files[name])
}

// parents are the folders on the way to a file, outermost first.
func parents(name string) []string {
	var dirs []string
	for n, c := range name {
		if c == '/' {
			dirs = append(dirs, name[:n])
		}
	}
	return dirs
}
