// Package tree is a guest in memory. It is the engine of tests: golden guest
// trees are read from txtar archives, edited by fixers, and compared. It passes
// the same conformance suite as the engines that read real disks.
//
// FS: one file system or, with a topology, several of them to be mounted.
package tree

import (
	"cmp"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"hyper2kvm/fixers/guest"
)

// Epoch is the modification time of whatever an archive gives no time.
var Epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// FS is a guest's files in memory. It implements guest.Guest. It is not safe
// for concurrent use.
type FS struct {
	root     *node
	topology guest.Topology
	volumes  map[string]*FS // by device; nil: one tree stands for all of them
	mounted  []guest.Mounted
	covered  []*node // folders that something is mounted at
	bare     *node   // the root before anything was mounted

	// Limit is how many bytes its files may have in all, so that a test can
	// fill it; zero for no limit.
	Limit int64
}

// node is an inode: hard links are two names with one node.
type node struct {
	info   guest.Info // without the name
	data   []byte     // may be shorter than the size: a hole follows
	target string
	xattrs map[string][]byte
	kids   map[string]*node
	over   *node // root of the file system mounted here
	sealed bool  // it is in a read-only subvolume
}

// New is an empty tree: a root folder.
func New() *FS {
	root := newNode(fs.ModeDir | 0o755)
	return &FS{root: root, bare: root}
}

// NewGuest is a guest of several file systems, each empty root folder waiting
// for Mount. With volumes nil, Mount only checks that the device is in the
// topology, and the tree that it returns holds the files of all of them. A btrfs's
// volume is its top level, where the subvolumes of the topology are folders.
func NewGuest(topology guest.Topology, volumes map[string]*FS) *FS {
	f := New()
	f.topology, f.volumes = topology, volumes
	for device, v := range volumes {
		f.seal(device, v.root)
	}
	return f
}

// WithTopology makes a tree that stands for all file systems of a topology.
func (f *FS) WithTopology(topology guest.Topology) *FS {
	f.topology = topology
	return f
}

func newNode(mode fs.FileMode) *node {
	n := &node{info: guest.Info{Mode: mode, MTime: Epoch}}
	if mode.IsDir() {
		n.kids = map[string]*node{}
	}
	return n
}

func failed(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// maxLinks is how many symbolic links Linux follows in one name.
const maxLinks = 40

// walk finds the folder that name's last element is in, links followed; with
// last, a link at the end is followed too. It walks as openat2 with
// RESOLVE_IN_ROOT does: ".." of the root is the root.
func (f *FS) walk(op, name string, last bool) (dir *node, base string, err error) {
	stack := []*node{f.root}
	todo := strings.Split(name, "/")
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		dir = stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		end := !slices.ContainsFunc(todo, func(s string) bool { return s != "" && s != "." })
		n, ok := dir.kids[part]
		if end && (!ok || n.target == "" || !last) {
			return dir, part, nil
		}
		if !ok {
			return nil, "", failed(op, name, fs.ErrNotExist)
		}
		if n.target != "" {
			if links++; links > maxLinks {
				return nil, "", failed(op, name, syscall.ELOOP)
			}
			if path.IsAbs(n.target) {
				stack = stack[:1]
			}
			todo = append(strings.Split(n.target, "/"), todo...)
			continue
		}
		n = n.top()
		if !n.info.Mode.IsDir() { // a name below a file is a name of nothing
			return nil, "", failed(op, name, fs.ErrNotExist)
		}
		stack = append(stack, n)
	}
	return stack[len(stack)-1], ".", nil
}

// top is what is seen at a node: the root of what is mounted there.
func (n *node) top() *node {
	for n.over != nil {
		n = n.over
	}
	return n
}

func (n *node) child(base string) (*node, bool) {
	if base == "." {
		return n, true
	}
	kid, ok := n.kids[base]
	if !ok {
		return nil, false
	}
	return kid.top(), true
}

func (f *FS) at(op, name string, last bool) (*node, error) {
	dir, base, err := f.walk(op, name, last)
	if err != nil {
		return nil, err
	}
	n, ok := dir.child(base)
	if !ok {
		return nil, failed(op, name, fs.ErrNotExist)
	}
	return n, nil
}

func (n *node) describe(name string) guest.Info {
	info := n.info
	info.Name = path.Base(name)
	if n.target != "" {
		info.Size = int64(len(n.target))
	}
	return info
}

// ReadFile reads a regular file of at most limit bytes.
func (f *FS) ReadFile(name string, limit int64) ([]byte, error) {
	n, err := f.regular("open", name)
	if err != nil {
		return nil, err
	}
	if n.info.Size > limit {
		return nil, failed("read", name, guest.ErrTooBig)
	}
	return n.content(), nil
}

func (f *FS) regular(op, name string) (*node, error) {
	n, err := f.at(op, name, true)
	if err != nil {
		return nil, err
	}
	if !n.info.Mode.IsRegular() {
		return nil, failed(op, name, guest.ErrNotRegular)
	}
	return n, nil
}

// Lstat describes name itself.
func (f *FS) Lstat(name string) (guest.Info, error) {
	n, err := f.at("lstat", name, false)
	if err != nil {
		return guest.Info{}, err
	}
	return n.describe(name), nil
}

// ReadDir lists a folder, sorted by name.
func (f *FS) ReadDir(name string) ([]guest.Info, error) {
	n, err := f.at("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.info.Mode.IsDir() {
		return nil, failed("readdir", name, syscall.ENOTDIR)
	}
	if len(n.kids) > guest.MaxEntries {
		return nil, failed("readdir", name, guest.ErrTooBig)
	}
	list := make([]guest.Info, 0, len(n.kids))
	for base, kid := range n.kids {
		list = append(list, kid.top().describe(base))
	}
	slices.SortFunc(list, func(a, b guest.Info) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Readlink is a symbolic link's target.
func (f *FS) Readlink(name string) (string, error) {
	n, err := f.at("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.target == "" {
		return "", failed("readlink", name, syscall.EINVAL)
	}
	return n.target, nil
}

// Space is that of the device on which a name is; a tree that stands for all of
// them is one file system.
func (f *FS) Space(name string) (guest.Space, error) {
	if _, err := f.at("statfs", name, true); err != nil {
		return guest.Space{}, err
	}
	free := int64(math.MaxInt64)
	if f.Limit > 0 {
		free = f.Limit - f.root.used(map[*node]bool{})
	}
	on, err := guest.DeviceOf(f, f.mounted, name)
	return guest.Space{Filesystem: cmp.Or(on, "tree"), Free: free}, err
}

// used is what the files under a node have, hard links once.
func (n *node) used(seen map[*node]bool) int64 {
	n = n.top()
	if seen[n] {
		return 0
	}
	seen[n] = true
	total := int64(len(n.data))
	for _, kid := range n.kids {
		total += kid.used(seen)
	}
	return total
}

// Xattrs are the extended attributes of name itself.
func (f *FS) Xattrs(name string) (map[string][]byte, error) {
	n, err := f.at("listxattr", name, false)
	if err != nil {
		return nil, err
	}
	return clone(n.xattrs), nil
}

func clone(xattrs map[string][]byte) map[string][]byte {
	if len(xattrs) == 0 {
		return nil
	}
	xattrs = maps.Clone(xattrs)
	for name, value := range xattrs {
		xattrs[name] = append([]byte{}, value...)
	}
	return xattrs
}
