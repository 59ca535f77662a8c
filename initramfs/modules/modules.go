// Package modules loads the kernel's modules: those that are named, those that a device
// asks for, and what either stands on.
package modules

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree is the modules of one kernel, and which of them are loaded.
type Tree struct {
	folder  string
	files   map[string]string   // by name, below folder
	needs   map[string][]string // names that have to be there before, in their order
	wants   map[string][]string // names that should be there before, if they can
	aliases []alias
	done    map[string]error
	seen    map[string]bool // modaliases of devices
	load    func(file string) error
}

// alias is a pattern of device names, and the module that drives them.
type alias struct{ pattern, name string }

// Open reads the indexes of a folder such as /lib/modules/6.12.57. They may name modules
// that are not there, as where a part of them was copied: these are left out.
// Source: modules.dep(5), modprobe.d(5) on softdep.
func Open(folder string) (*Tree, error) {
	t := &Tree{folder: folder, files: map[string]string{}, needs: map[string][]string{}, wants: map[string][]string{}, done: map[string]error{}, seen: map[string]bool{}, load: load}
	if err := lines(folder, "modules.dep", t.dependency); err != nil {
		return nil, err
	}
	if err := lines(folder, "modules.softdep", t.softdep); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return t, lines(folder, "modules.alias", t.alias)
}

// lines calls do with the fields of every line of an index.
func lines(folder, name string, do func([]string)) error {
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if field := strings.Fields(s.Text()); len(field) > 0 && field[0] != "#" {
			do(field)
		}
	}
	return s.Err()
}

// dependency takes a line such as "a/b.ko.xz: c/d.ko.xz e/f.ko.xz": f comes first.
func (t *Tree) dependency(field []string) {
	file := strings.TrimSuffix(field[0], ":")
	if _, err := os.Stat(filepath.Join(t.folder, file)); err != nil {
		return
	}
	name := Name(file)
	t.files[name] = file
	for _, f := range slices.Backward(field[1:]) {
		t.needs[name] = append(t.needs[name], Name(f))
	}
}

// softdep takes a line such as "softdep a pre: b c post: d". What is to come after comes
// before here too: it is there in the end.
func (t *Tree) softdep(field []string) {
	if len(field) < 3 || field[0] != "softdep" {
		return
	}
	for _, f := range field[2:] {
		if !strings.HasSuffix(f, ":") {
			t.wants[plain(field[1])] = append(t.wants[plain(field[1])], f)
		}
	}
}

// alias takes a line such as "alias pci:v00001AF4d* virtio_pci".
func (t *Tree) alias(field []string) {
	if len(field) == 3 && field[0] == "alias" && t.files[plain(field[2])] != "" {
		t.aliases = append(t.aliases, alias{field[1], plain(field[2])})
	}
}

// Name is what a module's file is called by.
func Name(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return plain(name)
}

// plain is a name as the kernel has it: dashes and underscores are the same.
func plain(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Has tells whether there is such a module here. One that is built into the kernel is not.
func (t *Tree) Has(name string) bool { return t.files[plain(name)] != "" }

// Load loads a module after what it needs. One that is not here is taken to be built into
// the kernel.
func (t *Tree) Load(name string) error {
	name = plain(name)
	file := t.files[name]
	if err, tried := t.done[name]; tried || file == "" {
		return err
	}
	t.done[name] = nil // it may stand on itself by way of a wish
	for _, want := range t.wants[name] {
		_ = t.Load(want) // a wish alone: what cannot do without it says so
		_ = t.Match(want)
	}
	for _, need := range t.needs[name] {
		if err := t.Load(need); err != nil {
			t.done[name] = fmt.Errorf("%s: %w", name, err)
			return t.done[name]
		}
	}
	if err := t.load(filepath.Join(t.folder, file)); err != nil {
		t.done[name] = fmt.Errorf("load %s: %w", name, err)
	}
	return t.done[name]
}

// Match loads every module that has such an alias: the modalias of a device that it
// drives, or what it is asked for by, such as crypto-sha256.
func (t *Tree) Match(modalias string) error {
	var errs []error
	for _, a := range t.aliases {
		if fits, err := path.Match(a.pattern, modalias); err == nil && fits {
			errs = append(errs, t.Load(a.name))
		}
	}
	return errors.Join(errs...)
}

// load has the kernel take a module's file, and inflate it where it is compressed.
// Source: init_module(2).
func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(file, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
