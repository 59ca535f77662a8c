package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"
)

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
func (v *View) Write(name string, data []byte) error { return v.write(name, data, "") }

// WriteBinary is Write of what a diff cannot show; what says it in a sentence.
func (v *View) WriteBinary(name string, data []byte, what string) error {
	return v.write(name, data, what)
}

func (v *View) write(name string, data []byte, what string) error {
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
	if what == "" {
		what = diff(at, old, data)
	}
	return v.record(at, before, after, Change{Data: data, Diff: what}, &node{data: bytes.Clone(data)})
}

// Append adds data to the end of an existing file; what says it in a sentence. The
// largest that are, initrds, are read once.
func (v *View) Append(name string, data []byte, what string) error {
	at, err := v.unmasked(name)
	if err != nil {
		return err
	}
	before, old, err := v.read(at)
	if err != nil {
		return err
	}
	if before.Kind != File {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	n := &node{tail: bytes.Clone(data)}
	if prior, ok := v.nodes[at]; ok && prior.tail != nil {
		n.tail = append(bytes.Clone(prior.tail), data...)
	} else if ok {
		n = &node{data: slices.Concat(old, data)}
	}
	after := before
	after.Size = before.Size + int64(len(data))
	before.SHA256, after.SHA256 = digests(old, data)
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

// unmasked resolves name.
func (v *View) unmasked(name string) (string, error) {
	at, err := v.Resolve(name)
	if err == nil && at == nothing {
		err = fmt.Errorf("%s: is masked", name)
	}
	return at, err
}

// target resolves name, makes its folders and tells what stands there.
func (v *View) target(name string) (string, State, error) {
	at, err := v.unmasked(name)
	if err != nil {
		return "", State{}, err
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
