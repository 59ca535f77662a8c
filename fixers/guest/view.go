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
	"time"
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

// nothing is where a link leads that masks a file of the same name in a later
// folder of a search path. It reads as empty, as the programs that mask find it,
// whether or not the guest's root holds the device.
//
// Source: udev(7), systemd.unit(5), sysctl.d(5).
const nothing = "/dev/null"

// ReadFile reads a regular file of at most limit bytes; a masked file is empty.
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
		return v.base.ReadFile(at, limit)
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

// StateOf reads everything that stands at name, a link's end not followed.
func StateOf(r Reader, name string) (State, error) {
	info, err := r.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Kind: Absent}, nil
	}
	if err != nil {
		return State{}, err
	}
	xattrs, err := r.Xattrs(name)
	if err != nil {
		return State{}, err
	}
	s := State{Kind: kindOf(info.Mode), Meta: Meta{Mode: info.Mode & ModeBits, UID: info.UID, GID: info.GID, Xattrs: xattrs, MTime: info.MTime}}
	switch s.Kind {
	case File:
		data, err := r.ReadFile(name, MaxFile)
		if err != nil {
			return State{}, err
		}
		s.Size, s.SHA256 = int64(len(data)), digest(data)
	case Symlink:
		s.Target, err = r.Readlink(name)
	}
	return s, err
}

// Edit rewrites an existing text file. A file that is absent is left absent, a
// masked one masked, and an edit that changes nothing is not recorded. The file
// behind a symbolic link is edited, the link stays.
func (v *View) Edit(name string, edit func(old []byte) ([]byte, error)) error {
	if at, err := v.Resolve(name); err != nil || at == nothing {
		return err
	}
	old, err := v.ReadFile(name, MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := edit(bytes.Clone(old))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return v.Write(name, now)
}

// Write makes a file's content data. A file that exists keeps owner, mode and
// attributes, and must not be larger than MaxText; a new one is root's with mode
// 0644, and folders that it needs are made with mode 0755.
func (v *View) Write(name string, data []byte) error {
	at, before, err := v.target(name)
	if err != nil {
		return err
	}
	after := State{Kind: File, Size: int64(len(data)), SHA256: digest(data), Meta: Meta{Mode: 0o644}}
	if before.Kind == File {
		after.Meta = before.Meta
	}
	old := []byte{}
	if before.Kind == File {
		if old, err = v.ReadFile(at, MaxText); err != nil { // undo keeps it
			return err
		}
	} else if before.Kind != Absent {
		return fmt.Errorf("%s: is a %s, not a file", name, before.Kind)
	}
	if before.Same(after) {
		return nil
	}
	return v.record(at, before, after, Change{Data: data, Diff: diff(at, old, data)}, &node{data: bytes.Clone(data)})
}

// Append adds data to the end of an existing file; what says it in a sentence.
func (v *View) Append(name string, data []byte, what string) error {
	at, before, err := v.target(name)
	if err != nil {
		return err
	}
	if before.Kind != File {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	old, err := v.ReadFile(at, MaxFile)
	if err != nil {
		return err
	}
	n := &node{tail: bytes.Clone(data)}
	if prior, ok := v.nodes[at]; ok && prior.tail != nil {
		n.tail = append(bytes.Clone(prior.tail), data...)
	} else if ok {
		n = &node{data: append(old, data...)}
	}
	after := before
	after.Size, after.SHA256 = before.Size+int64(len(data)), digest(append(old, data...))
	return v.record(at, before, after, Change{Keep: before.Size, Data: data, Diff: what}, n)
}

// Link makes name a symbolic link to target; a file in its place is replaced.
func (v *View) Link(target, name string) error {
	at, err := v.resolve(name, false)
	if err != nil {
		return err
	}
	before, err := v.state(at)
	if err != nil {
		return err
	}
	if before.Kind == Symlink && before.Target == target {
		return nil
	}
	if before.Kind != Absent {
		if err := v.Remove(at); err != nil {
			return err
		}
	}
	if err := v.parents(at); err != nil {
		return err
	}
	after := State{Kind: Symlink, Target: target, Meta: Meta{Mode: fs.ModePerm}}
	return v.record(at, State{Kind: Absent}, after, Change{Diff: "symbolic link to " + target}, &node{})
}

// Remove removes a symbolic link or a file of at most MaxText bytes; one that is
// absent stays so.
func (v *View) Remove(name string) error {
	at, err := v.resolve(name, false)
	if err != nil {
		return err
	}
	before, err := v.state(at)
	if err != nil || before.Kind == Absent {
		return err
	}
	if before.Kind != File && before.Kind != Symlink {
		return fmt.Errorf("%s: is a %s, which is not removed", name, before.Kind)
	}
	c := Change{Diff: "symbolic link to " + before.Target + " removed"}
	if before.Kind == File {
		old, err := v.ReadFile(at, MaxText) // undo keeps it
		if err != nil {
			return err
		}
		c.Diff = diff(at, old, nil)
	}
	return v.record(at, before, State{Kind: Absent}, c, &node{})
}

// SetMode changes the permissions of what name leads to.
func (v *View) SetMode(name string, mode fs.FileMode) error {
	at, before, err := v.target(name)
	if err != nil || before.Meta.Mode == mode {
		return err
	}
	if before.Kind != File && before.Kind != Folder {
		return fmt.Errorf("%s: is %s, its mode is not changed", name, before.Kind)
	}
	after := before
	after.Meta.Mode = mode
	n := &node{}
	if prior, ok := v.nodes[at]; ok {
		*n = *prior
	}
	return v.record(at, before, after, Change{Keep: before.Size, Diff: fmt.Sprintf("mode %o to %o", before.Meta.Mode, mode)}, n)
}

// target resolves name, makes its folders and tells what stands there.
func (v *View) target(name string) (string, State, error) {
	at, err := v.Resolve(name)
	if err != nil {
		return "", State{}, err
	}
	if at == nothing {
		return "", State{}, fmt.Errorf("%s: is masked", name)
	}
	before, err := v.state(at)
	if err != nil {
		return "", State{}, err
	}
	if before.Kind != Absent {
		return at, before, nil
	}
	return at, before, v.parents(at)
}

func (v *View) parents(at string) error {
	dir := path.Dir(at)
	_, err := v.lstat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := v.parents(dir); err != nil {
		return err
	}
	after := State{Kind: Folder, Meta: Meta{Mode: 0o755}}
	return v.record(dir, State{Kind: Absent}, after, Change{Diff: "new folder"}, &node{fresh: true})
}

func (v *View) record(at string, before, after State, c Change, n *node) error {
	if v.fixer == "" {
		return fmt.Errorf("%s: edited by no fixer", at)
	}
	if before.Kind != after.Kind || before.SHA256 != after.SHA256 {
		after.Meta.MTime = time.Time{} // the file system's own, at the time of FIX
	}
	c.Fixer, c.Why, c.Path, c.Before, c.After = v.fixer, v.why, at, before, after
	n.state = after
	v.nodes[at] = n
	v.changes = append(v.changes, c)
	return nil
}
