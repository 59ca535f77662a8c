package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

// Check tells whether the guest is what the changes were planned for, without
// touching it. Its error wraps ErrConflict and names every path that differs.
func Check(r Reader, changes []Change) error {
	_, err := checked(r, changes)
	return err
}

// checked is Check, and what it found at each path.
func checked(r Reader, changes []Change) (found map[string]State, err error) {
	found = map[string]State{}
	now := map[string]State{}
	var conflicts []error
	for _, c := range changes {
		if err := c.valid(); err != nil {
			return nil, err
		}
		was, seen := now[c.Path]
		if !seen {
			if was, err = StateOf(r, c.Path); err != nil {
				return nil, err
			}
			found[c.Path] = was
		}
		if !was.Same(c.Before) {
			conflicts = append(conflicts, fmt.Errorf("%s: %w (planned by %s)", c.Path, ErrConflict, c.Fixer))
		}
		now[c.Path] = c.After
	}
	return found, errors.Join(conflicts...)
}

// valid refuses what no View records: a plan may have been written by hand.
func (c Change) valid() error {
	if !path.IsAbs(c.Path) || path.Clean(c.Path) != c.Path || c.Path == "/" && c.After.Kind != Folder {
		return fmt.Errorf("%q is not the full name of a file: %w", c.Path, fs.ErrInvalid)
	}
	if c.Keep < 0 || c.Keep > max(c.Before.Size, 0) || c.Keep > MaxFile || len(c.Data) > MaxFile {
		return fmt.Errorf("%s: keeps %d of %d bytes: %w", c.Path, c.Keep, c.Before.Size, fs.ErrInvalid)
	}
	return nil
}

// Apply makes the changes, exactly these, in order, after Check found the guest
// as it was planned for. It returns the inverse set: applied, it restores
// content, owner, mode, attributes and times of every file. When Apply fails in
// the middle the guest is neither; its overlay is to be thrown away.
func Apply(g FS, changes []Change) (inverse []Change, err error) {
	known, err := checked(g, changes)
	if err != nil {
		return nil, err
	}
	folders, err := parents(g, changes)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		undo, err := apply(g, c, known)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", c.Fixer, c.Path, err)
		}
		inverse = append(inverse, undo)
	}
	slices.Reverse(inverse)
	return append(inverse, folders...), nil
}

// parents are changes that restore the folders of the changed files: their
// times move when names come and go.
func parents(r Reader, changes []Change) ([]Change, error) {
	var folders []Change
	seen := map[string]bool{}
	for _, c := range changes {
		dir := path.Dir(c.Path)
		if seen[dir] {
			continue
		}
		seen[dir] = true
		s, err := StateOf(r, dir)
		if err != nil {
			return nil, err
		}
		if s.Kind == Folder {
			folders = append(folders, Change{Fixer: c.Fixer, Why: "undo: " + c.Why, Path: dir, Before: s, After: s, Diff: "restored: times"})
		}
	}
	return folders, nil
}

// apply makes one change and returns its inverse. What is known of the paths' states is
// kept up to date.
func apply(g FS, c Change, known map[string]State) (Change, error) {
	before, err := stateSince(g, c.Path, known[c.Path])
	if err != nil {
		return Change{}, err
	}
	undo := Change{Fixer: c.Fixer, Why: "undo: " + c.Why, Path: c.Path, Before: c.After, After: before, Keep: c.Keep}
	if before.Kind == File && c.Keep < before.Size {
		old, err := g.ReadFile(c.Path, MaxFile)
		if err != nil {
			return Change{}, err
		}
		undo.Data = old[c.Keep:]
	}
	undo.Diff = fmt.Sprintf("restored: %s", before.Kind)
	if err := transition(g, c, before); err != nil {
		return Change{}, err
	}
	after, err := StateOf(g, c.Path)
	if err != nil {
		return Change{}, err
	}
	if !after.Same(c.After) {
		return Change{}, fmt.Errorf("is not what was written: %+v, want %+v", after, c.After)
	}
	known[c.Path] = after
	return undo, nil
}

func transition(g FS, c Change, before State) error {
	if before.Kind != Absent && before.Kind != c.After.Kind {
		if err := g.Remove(c.Path); err != nil {
			return err
		}
	}
	switch c.After.Kind {
	case Absent:
		return nil
	case Symlink:
		if before.Kind == Symlink && before.Target == c.After.Target {
			break
		}
		if err := g.Symlink(c.After.Target, c.Path); err != nil {
			return err
		}
	case Folder:
		if before.Kind == Folder {
			break
		}
		if err := g.Mkdir(c.Path, c.After.Meta.Mode); err != nil {
			return err
		}
	case File:
		if before.Kind == File && before.SHA256 == c.After.SHA256 {
			break
		}
		if err := g.WriteFile(c.Path, c.Keep, c.Data); err != nil {
			return err
		}
	default:
		return fmt.Errorf("cannot make a %q: %w", c.After.Kind, fs.ErrInvalid)
	}
	return g.SetMeta(c.Path, c.After.Meta)
}
