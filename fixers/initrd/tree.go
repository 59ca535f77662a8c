package initrd

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const (
	nameMax   = 255      // the kernel's longest component
	maxHops   = 40       // the kernel's most symlinks in one look-up
	maxSteps  = 4096     // components looked at in one look-up
	stepsEver = 32 << 20 // and while unpacking: hostile symlinks must not cost minutes
)

// node is a file, folder or symlink. Names that are hard links share one.
type node struct {
	mode     uint32
	names    int // hard links
	size     int64
	target   string
	kept     bool
	data     []byte
	children map[string]*node // of a folder
}

func (n *node) is(kind uint32) bool { return n.mode&typeMask == kind }
func (n *node) regular() bool       { return n.is(typeReg) }

// tree is the kernel's first root while members are unpacked into it.
type tree struct {
	root  *node
	links map[inode]string // first name of files that may have more
	room  int64            // how many bytes of contents may still be kept
	taken int              // components looked at so far
}

// newTree is the root as the kernel's own archive leaves it (usr/default_cpio_list).
func newTree(keep int64) *tree {
	t := &tree{root: folder(0o755), room: keep, links: map[inode]string{}}
	t.root.children["dev"] = folder(0o755)
	t.root.children["root"] = folder(0o700)
	return t
}

// clone is a copy that goes on independently. Names that are hard links stay so.
func (t *tree) clone() *tree {
	c := *t
	c.links = maps.Clone(t.links)
	c.root = t.root.clone(map[*node]*node{})
	return &c
}

func (n *node) clone(done map[*node]*node) *node {
	if c := done[n]; c != nil {
		return c
	}
	c := *n
	done[n] = &c
	if n.children != nil {
		c.children = make(map[string]*node, len(n.children))
		for name, child := range n.children {
			c.children[name] = child.clone(done)
		}
	}
	return &c
}

func folder(mode uint32) *node {
	return &node{mode: typeDir | mode, names: 1, children: map[string]*node{}}
}

// add does to the tree what the kernel does for an entry (do_name, do_symlink,
// maybe_link, clean_path). What the kernel silently leaves out, add leaves out.
func (t *tree) add(e entry, body io.Reader) error {
	if t.taken > stepsEver {
		return fmt.Errorf("%w: too many folders and symlinks to follow", ErrLimit)
	}
	at, ok := t.unpacking(e.name)
	if !ok || at.missing > 0 {
		return nil
	}
	switch e.mode & typeMask {
	case typeDir:
		t.folder(at, e)
	case typeLink:
		return t.symlink(at, e, body)
	case typeReg:
		return t.regular(at, e, body)
	default:
		if clean(&at, e.mode); at.node == nil {
			at.put(&node{mode: e.mode, names: 1})
		}
	}
	return nil
}

func (t *tree) forgetLinks() { clear(t.links) }

func (t *tree) folder(at place, e entry) {
	clean(&at, e.mode)
	if at.node == nil {
		at.put(folder(0))
	}
	if at := at.here(t); at.is(typeDir) {
		at.mode = e.mode
	}
}

// here is the node after a put.
func (p place) here(t *tree) *node {
	if p.parent == nil {
		return t.root
	}
	return p.parent.children[p.base]
}

func (t *tree) symlink(at place, e entry, body io.Reader) error {
	target, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	clean(&at, 0)
	if at.node == nil {
		link, _, _ := strings.Cut(string(target), "\x00")
		at.put(&node{mode: e.mode, names: 1, target: link, size: e.size})
	}
	return nil
}

func (t *tree) regular(at place, e entry, body io.Reader) error {
	clean(&at, e.mode)
	linked := false
	if e.nlink >= 2 {
		if first, ok := t.links[e.inode]; ok {
			if linked = t.link(&at, first); !linked {
				return nil
			}
		} else {
			t.links[e.inode] = e.name
		}
	}
	if at.node == nil {
		at.node = &node{names: 1}
		at.put(at.node)
	}
	if at.node.is(typeDir) {
		return nil
	}
	at.node.mode = e.mode
	if linked && e.size == 0 {
		return nil
	}
	return t.fill(at, e, body)
}

// link makes at another name of the file that first names.
func (t *tree) link(at *place, first string) bool {
	clean(at, 0)
	old, ok := t.unpacking(first)
	if !ok || old.node == nil || !old.node.regular() || at.node != nil {
		return false
	}
	old.node.names++
	at.node = old.node
	at.put(old.node)
	return true
}

// fill sets a file's contents, kept when they are configuration and there is room.
func (t *tree) fill(at place, e entry, body io.Reader) error {
	n := at.node
	t.room += int64(len(n.data))
	n.size, n.kept, n.data = e.size, false, nil
	if e.size > min(keepUpTo(at.path), t.room) {
		return nil
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	n.kept, n.data = true, data
	t.room -= int64(len(data))
	return nil
}

// put enters a node under the place's name.
func (p place) put(n *node) {
	if p.parent != nil {
		p.parent.children[p.base] = n
	}
}

// clean removes what stands at a place when it is of another type than mode, as
// the kernel does before it creates a file; a folder only when it is empty.
func clean(at *place, mode uint32) {
	n := at.node
	if n == nil || at.parent == nil || n.is(mode&typeMask) || len(n.children) > 0 {
		return
	}
	n.names--
	delete(at.parent.children, at.base)
	at.node = nil
}

// below visits the files and symlinks under a folder, sorted, without following
// symlinks.
func (t *tree) below(dir string, visit func(path string, n *node)) {
	at, ok := t.walk(dir, true)
	if !ok || at.node == nil {
		return
	}
	at.node.visit(at.path, visit)
}

func (n *node) visit(path string, visit func(string, *node)) {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		child, full := n.children[name], strings.TrimPrefix(path+"/"+name, "/")
		if child.is(typeDir) {
			child.visit(full, visit)
			continue
		}
		visit(full, child)
	}
}
