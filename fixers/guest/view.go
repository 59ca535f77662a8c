package guest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// MaxText bounds the configuration files that fixers read and edit.
const MaxText = 4 << 20

// MaxFile bounds every file that a plan may touch: the largest initrds are a
// few hundred megabytes.
const MaxFile = 1 << 30

// View is a guest's files with edits recorded in memory; the guest itself is
// not touched. All fixers of one plan share a View in order, so a later one
// sees what an earlier one did. It is not safe for concurrent use.
type View struct {
	base    Reader
	nodes   map[string]*node // by resolved name: what the edits made of it
	changes []Change
	fixer   string
	why     string
	kept    kept // the last large file of the guest's that was read
}

// kept is a file of the guest's, whose files do not change beneath a View.
type kept struct {
	at   string
	data []byte
}

// node is a name that was edited: its present state, and content if a file.
type node struct {
	state State
	data  []byte // of a file that was written whole; nil after an append
	tail  []byte // what was appended to the base's file
	fresh bool   // a folder that the base does not have
}

// NewView begins a plan over a guest's files.
func NewView(base Reader) *View {
	return &View{base: base, nodes: map[string]*node{}}
}

// As names the fixer to which the following edits belong.
func (v *View) As(fixer, why string) { v.fixer, v.why = fixer, why }

// Changes are the edits so far, in order.
func (v *View) Changes() []Change { return slices.Clone(v.changes) }

// Mark is a point to which Rollback can return.
type Mark struct {
	nodes   map[string]*node
	changes int
}

// Mark remembers the edits so far.
func (v *View) Mark() Mark { return Mark{maps.Clone(v.nodes), len(v.changes)} }

// Rollback forgets the edits made since the mark: a fixer that fails half way
// leaves nothing behind.
func (v *View) Rollback(m Mark) { v.nodes, v.changes = m.nodes, v.changes[:m.changes] }

const maxLinks = 40 // as Linux

// Resolve follows every symbolic link in name, inside the guest root, and
// returns the name without links. The last element need not exist.
func (v *View) Resolve(name string) (string, error) { return v.resolve(name, true) }

func (v *View) resolve(name string, last bool) (string, error) {
	todo := strings.Split(name, "/") // not cleaned: ".." follows links, as in the kernel
	done, links := "/", 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		if len(todo) == 0 && !last {
			return next, nil
		}
		info, err := v.lstat(next)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if err != nil {
			return "", err
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many symbolic links", name)
		}
		target, err := v.readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

func (v *View) lstat(name string) (Info, error) {
	if n, ok := v.nodes[name]; ok {
		return n.info(name)
	}
	return v.base.Lstat(name)
}

func (v *View) readlink(name string) (string, error) {
	if n, ok := v.nodes[name]; ok {
		return n.state.Target, nil
	}
	return v.base.Readlink(name)
}

func (n *node) info(name string) (Info, error) {
	mode := n.state.Meta.Mode
	switch n.state.Kind {
	case Absent:
		return Info{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	case Folder:
		mode |= fs.ModeDir
	case Symlink:
		mode |= fs.ModeSymlink
	}
	return Info{Name: path.Base(name), Mode: mode, UID: n.state.Meta.UID, GID: n.state.Meta.GID,
		Size: n.state.Size, MTime: n.state.Meta.MTime}, nil
}

// Lstat describes name itself.
func (v *View) Lstat(name string) (Info, error) {
	at, err := v.resolve(name, false)
	if err != nil {
		return Info{}, err
	}
	return v.lstat(at)
}

// Stat describes what name leads to.
func (v *View) Stat(name string) (Info, error) {
	at, err := v.Resolve(name)
	if err != nil {
		return Info{}, err
	}
	return v.lstat(at)
}

// Exists tells whether name leads to something.
func (v *View) Exists(name string) (bool, error) {
	_, err := v.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Readlink is a symbolic link's target as it is written.
func (v *View) Readlink(name string) (string, error) {
	at, err := v.resolve(name, false)
	if err != nil {
		return "", err
	}
	return v.readlink(at)
}

// Xattrs are the extended attributes of what stands at name.
func (v *View) Xattrs(name string) (map[string][]byte, error) {
	at, err := v.resolve(name, false)
	if err != nil {
		return nil, err
	}
	if n, ok := v.nodes[at]; ok {
		return n.state.Meta.Xattrs, nil
	}
	return v.base.Xattrs(at)
}

// Space is that of the guest before any edit.
func (v *View) Space(name string) (Space, error) { return v.base.Space(name) }

// nothing is where a link leads that masks a file of the same name in a later
// folder of a search path. It reads as empty, as the programs that mask find it,
// whether or not the guest's root holds the device.
//
// Source: udev(7), systemd.unit(5), sysctl.d(5).
const nothing = "/dev/null"

// ReadFile reads a regular file of at most limit bytes; a masked file is empty. One over
// MaxText may be read by Append once more: what is returned is not to be changed.
func (v *View) ReadFile(name string, limit int64) ([]byte, error) {
	at, err := v.Resolve(name)
	if err != nil {
		return nil, err
	}
	if at == nothing {
		return nil, nil
	}
	n, ok := v.nodes[at]
	if !ok {
		data, err := v.base.ReadFile(at, limit)
		if err == nil && len(data) > MaxText {
			v.kept = kept{at, data[:len(data):len(data)]}
		}
		return data, err
	}
	switch {
	case n.state.Kind == Absent:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case n.state.Kind != File:
		return nil, fmt.Errorf("%s: %w", name, ErrNotRegular)
	case n.state.Size > limit:
		return nil, fmt.Errorf("%s: %w", name, ErrTooBig)
	case n.tail != nil:
		old, err := v.base.ReadFile(at, limit)
		return append(old, n.tail...), err
	case n.data == nil && n.state.Size > 0: // only its metadata were edited
		return v.base.ReadFile(at, limit)
	}
	return bytes.Clone(n.data), nil
}

// ReadDir lists a folder, edits included, sorted by name.
func (v *View) ReadDir(name string) ([]Info, error) {
	at, err := v.Resolve(name)
	if err != nil {
		return nil, err
	}
	var list []Info
	if n, ok := v.nodes[at]; !ok || !n.fresh {
		if list, err = v.base.ReadDir(at); err != nil {
			return nil, err
		}
	}
	list = slices.DeleteFunc(list, func(i Info) bool { _, edited := v.nodes[path.Join(at, i.Name)]; return edited })
	for full, n := range v.nodes {
		if path.Dir(full) != at || n.state.Kind == Absent {
			continue
		}
		info, err := n.info(full)
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// state is everything that stands at a resolved name.
func (v *View) state(at string) (State, error) {
	if n, ok := v.nodes[at]; ok {
		return n.state, nil
	}
	return StateOf(v.base, at)
}

// read is state, and the content of a file, whose digest it may lack.
func (v *View) read(at string) (State, []byte, error) {
	n, ok := v.nodes[at]
	switch {
	case !ok:
		return v.readBase(at)
	case n.state.Kind != File:
		return n.state, nil, nil
	}
	data, err := v.ReadFile(at, MaxFile)
	return n.state, data, err
}

// readBase is read of a file of the guest's that was not edited.
func (v *View) readBase(at string) (s State, data []byte, err error) {
	if s, err = described(v.base, at); err != nil || s.Kind != File {
		return s, nil, err
	}
	if data = v.kept.data; v.kept.at != at || int64(len(data)) != s.Size {
		data, err = v.base.ReadFile(at, MaxFile)
	}
	v.kept = kept{}
	s.Size = int64(len(data))
	return s, data, err
}
