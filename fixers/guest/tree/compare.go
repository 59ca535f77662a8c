package tree

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"hyper2kvm/fixers/guest"
)

// File is one file of a tree, all but its times.
type File struct {
	Mode     fs.FileMode // type and permissions
	UID, GID int
	Target   string // of a symbolic link
	Data     string // of a regular file
	Xattrs   map[string][]byte
}

// Files is everything in the tree by absolute name, folders and the root too.
func (f *FS) Files() map[string]File {
	files := map[string]File{}
	f.root.collect("/", files)
	return files
}

func (n *node) collect(name string, files map[string]File) {
	n = n.top()
	files[name] = File{Mode: n.info.Mode, UID: n.info.UID, GID: n.info.GID, Target: n.target, Data: string(n.content()), Xattrs: clone(n.xattrs)}
	for base, kid := range n.kids {
		kid.collect(path.Join(name, base), files)
	}
}

// Clone is a tree of its own with the same content; what is mounted is copied
// as ordinary folders, and hard links stay together.
func (f *FS) Clone() *FS {
	root := f.root.clone(map[*node]*node{})
	return &FS{root: root, bare: root, topology: f.topology, Limit: f.Limit}
}

func (n *node) clone(seen map[*node]*node) *node {
	n = n.top()
	if c, ok := seen[n]; ok {
		return c
	}
	c := &node{info: n.info, data: bytes.Clone(n.data), target: n.target, xattrs: clone(n.xattrs)}
	seen[n] = c
	if n.kids == nil {
		return c
	}
	c.kids = map[string]*node{}
	for base, kid := range n.kids {
		c.kids[base] = kid.clone(seen)
	}
	return c
}

// Equal tells whether two trees differ in nothing but times.
func Equal(a, b *FS) bool { return Diff(a, b) == "" }

// Diff says for people how b differs from a, times apart; "" if it does not.
func Diff(a, b *FS) string { return DiffFiles(a.Files(), b.Files()) }

// DiffFiles is Diff of what Files or Read returned.
func DiffFiles(old, now map[string]File) string {
	names := maps.Clone(old)
	maps.Copy(names, now)
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, before := old[name]
		is, after := now[name]
		switch {
		case !before:
			fmt.Fprintf(&out, "+ %s: %s\n%s", name, is.line(), content(name, "", is.Data))
		case !after:
			fmt.Fprintf(&out, "- %s: %s\n", name, was.line())
		default:
			if was.line() != is.line() {
				fmt.Fprintf(&out, "! %s: %s, now %s\n", name, was.line(), is.line())
			}
			out.WriteString(content(name, was.Data, is.Data))
		}
	}
	return out.String()
}

func (f File) line() string {
	s := fmt.Sprintf("%v %d:%d", f.Mode, f.UID, f.GID)
	if f.Target != "" {
		s += " -> " + f.Target
	}
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		s += fmt.Sprintf(" %s=%q", name, f.Xattrs[name])
	}
	return s
}

func content(name, old, now string) string {
	switch {
	case old == now:
		return ""
	case !utf8.ValidString(old) || !utf8.ValidString(now):
		return fmt.Sprintf("! %s: binary content differs, %d bytes to %d bytes\n", name, len(old), len(now))
	}
	return string(diff.Diff("a"+name, []byte(old), "b"+name, []byte(now)))
}

// maxRead bounds the files that Read takes from a guest.
const maxRead = 64 << 20

// Read is everything in any guest, as Files is of a tree, so that engines can
// be compared. It is for tests: it reads every file whole.
func Read(r guest.Reader) (map[string]File, error) {
	files := map[string]File{}
	info, err := r.Lstat("/")
	if err != nil {
		return nil, err
	}
	return files, read(r, "/", info, files)
}

func read(r guest.Reader, name string, info guest.Info, files map[string]File) (err error) {
	file := File{Mode: info.Mode, UID: info.UID, GID: info.GID}
	if file.Xattrs, err = r.Xattrs(name); err != nil {
		return err
	}
	switch info.Mode.Type() {
	case 0:
		data, err := r.ReadFile(name, maxRead)
		if err != nil {
			return err
		}
		file.Data = string(data)
	case fs.ModeSymlink:
		if file.Target, err = r.Readlink(name); err != nil {
			return err
		}
	}
	files[name] = file
	if !info.Mode.IsDir() {
		return nil
	}
	list, err := r.ReadDir(name)
	if err != nil {
		return err
	}
	for _, kid := range list {
		if err := read(r, path.Join(name, kid.Name), kid, files); err != nil {
			return err
		}
	}
	return nil
}
