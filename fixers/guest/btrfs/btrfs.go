// Package btrfs reads which subvolumes a btrfs has: their names, which of them is
// mounted by default, and which are read-only. Nothing is mounted for it. The reader
// is bounded, since the disks are a guest's, and every engine uses it, so that they
// know the same subvolumes.
//
// Subvolume: a tree of files of its own, which is a folder of another subvolume too.
// Top level: the one that all others lie in.
//
// Source: Linux include/uapi/linux/btrfs_tree.h, fs/btrfs/disk-io.c, volumes.c.
package btrfs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// ErrUnread is a btrfs of which not all subvolumes are known; those that are come
// with it.
var ErrUnread = errors.New("not all of its subvolumes are known")

// Subvolume is one of a file system's.
type Subvolume struct {
	ID       uint64
	Path     string // from the top level, which is "/": /@home
	ReadOnly bool
	Default  bool
}

// TopLevel is the ID of the subvolume that every btrfs has.
const TopLevel = 5

// Bounds of what is taken of a file system. Some have thousands of snapshots.
const (
	maxSubvolumes = 10_000
	maxNames      = 1 << 20 // bytes of all paths
	maxPath       = 4095    // bytes, as Linux
	maxDepth      = 64      // subvolumes in each other
)

// Read reads the subvolumes of a btrfs on a device of size bytes, in the order of
// their IDs. Those that nobody can reach by a name are left out.
func Read(r io.ReaderAt, size int64) ([]Subvolume, error) {
	d, roots, err := open(r, size)
	if err != nil {
		return nil, err
	}
	t := table{disk: d, roots: map[uint64]*root{}, def: TopLevel, folders: map[folder]string{}}
	if err := t.read(roots); err != nil {
		return nil, err
	}
	return t.list()
}

// table is what the tree of roots says.
type table struct {
	disk    *disk
	roots   map[uint64]*root
	def     uint64            // what is mounted by default
	folders map[folder]string // paths within their subvolumes
}

// root is one subvolume as it stands in the tree of roots.
type root struct {
	at       pointer // its own tree
	readOnly bool
	alive    bool
	parent   uint64 // the subvolume that it is a folder of
	dir      uint64 // and the folder there
	name     string
	path     string // once it is known
}

// folder is one in a subvolume, by its inode.
type folder struct{ subvolume, inode uint64 }

// Kinds of items, and what they are about.
const (
	inodeRef    = 12
	dirItem     = 84
	rootItem    = 132
	rootBackref = 144

	rootTreeDir = 6   // the objects that name the default
	firstFree   = 256 // the first subvolume that is made, and the top folder of each
)

// lastFree is the last ID of a subvolume; the kernel's own objects follow.
const lastFree = ^uint64(255)

// read takes the subvolumes out of the tree of roots.
func (t *table) read(at pointer) error {
	err := t.disk.walk(at, key{}, func(k key, data []byte) bool {
		switch {
		case k.object == rootTreeDir && k.kind == dirItem:
			t.readDefault(data)
		case k.object != TopLevel && (k.object < firstFree || k.object > lastFree):
		case k.kind == rootItem:
			t.readRoot(t.root(k.object), data)
		case k.kind == rootBackref:
			t.readName(t.root(k.object), k.offset, data)
		}
		return len(t.roots) <= maxSubvolumes
	})
	if err == nil && len(t.roots) > maxSubvolumes {
		delete(t.roots, slices.Max(slices.Collect(maps.Keys(t.roots))))
		err = fmt.Errorf("%w: they are more than %d", ErrUnread, maxSubvolumes)
	}
	if len(t.roots) > 0 && errors.Is(err, ErrUnread) { // list tells of it
		t.disk.damage = cmp.Or(t.disk.damage, err)
		return nil
	}
	return err
}

func (t *table) root(id uint64) *root {
	if t.roots[id] == nil {
		t.roots[id] = &root{}
	}
	return t.roots[id]
}

// readDefault reads which subvolume is mounted by default.
//
// Source: struct btrfs_dir_item; fs/btrfs/super.c, get_default_subvol_objectid.
func (t *table) readDefault(data []byte) {
	const head, nameLength = 30, 27
	if len(data) < head || string(data[head:]) != "default" || le.Uint16(data[nameLength:]) != 7 {
		return
	}
	t.def = le.Uint64(data)
}

// readRoot reads where a subvolume's own tree is. One that is being removed has no
// references any more.
//
// Source: struct btrfs_root_item, BTRFS_ROOT_SUBVOL_RDONLY.
func (t *table) readRoot(r *root, data []byte) {
	const bytenr, flags, refs, level, end = 176, 208, 216, 238, 239
	if len(data) < end {
		return
	}
	r.at = pointer{le.Uint64(data[bytenr:]), data[level]}
	r.readOnly = le.Uint64(data[flags:])&1 != 0
	r.alive = le.Uint32(data[refs:]) > 0
}

// readName reads which folder of another subvolume a subvolume is.
//
// Source: struct btrfs_root_ref.
func (t *table) readName(r *root, parent uint64, data []byte) {
	const nameLength, head = 16, 18
	if len(data) < head || len(data)-head < int(le.Uint16(data[nameLength:])) {
		return
	}
	r.parent, r.dir = parent, le.Uint64(data)
	r.name = string(data[head : head+int(le.Uint16(data[nameLength:]))])
}

// list names the subvolumes.
func (t *table) list() ([]Subvolume, error) {
	var all []Subvolume
	names := 0
	for _, id := range slices.Sorted(maps.Keys(t.roots)) {
		r := t.roots[id]
		if !r.alive {
			continue
		}
		name, err := t.path(id, maxDepth)
		if err != nil && !errors.Is(err, ErrUnread) {
			return nil, err
		}
		if names += len(name); err == nil && names > maxNames {
			err = fmt.Errorf("%w: their names are too long", ErrUnread)
		}
		if t.disk.damage = cmp.Or(t.disk.damage, err); err == nil {
			all = append(all, Subvolume{ID: id, Path: name, ReadOnly: r.readOnly, Default: id == t.def})
		}
	}
	return all, t.disk.damage
}

// path is a subvolume's name from the top level.
func (t *table) path(id uint64, depth int) (string, error) {
	r := t.roots[id]
	switch {
	case r != nil && r.alive && id == TopLevel:
		return "/", nil
	case r == nil || !r.alive || depth == 0 || !possible(r.name):
		return "", fmt.Errorf("%w: %d has no name", ErrUnread, id)
	case r.path != "":
		return r.path, nil
	}
	above, err := t.path(r.parent, depth-1)
	if err != nil {
		return "", err
	}
	within, err := t.folder(folder{r.parent, r.dir})
	if err != nil {
		return "", err
	}
	if r.path = path.Join(above, within, r.name); len(r.path) > maxPath {
		return "", fmt.Errorf("%w: the name of %d is too long", ErrUnread, id)
	}
	return r.path, nil
}

// folder is the path of a folder within its subvolume.
func (t *table) folder(f folder) (string, error) {
	if known, ok := t.folders[f]; ok {
		return known, nil
	}
	at, name := f.inode, ""
	for at != firstFree {
		parent, base, err := t.disk.nameOf(t.roots[f.subvolume].at, at)
		if err != nil {
			return "", err
		}
		at, name = parent, path.Join(base, name)
		if len(name) > maxPath {
			return "", fmt.Errorf("%w: the name of folder %d is too long", ErrUnread, f.inode)
		}
	}
	t.folders[f] = name
	return name, nil
}

// possible tells whether a folder can hold a name.
func possible(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}
