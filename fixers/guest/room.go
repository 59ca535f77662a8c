package guest

import (
	"errors"
	"io/fs"
	"path"
)

// Shortage is a file system on which a change set needs more than there is.
type Shortage struct {
	Folder string // of the first change there
	Need   int64  // bytes
	Free   int64  // bytes
}

// block is what a file takes at least on most file systems.
const block = 4096

// Shortages lists the file systems that are too full for a change set, in the
// order of the changes. A file that shrinks makes no room for others: what is
// written first is not known to be what shrinks.
func Shortages(r Reader, changes []Change) ([]Shortage, error) {
	sizes := map[string]struct{ before, after int64 }{}
	var paths []string
	for _, c := range changes {
		s, seen := sizes[c.Path]
		if !seen {
			paths = append(paths, c.Path)
			s.before = blocks(c.Before)
		}
		s.after = blocks(c.After)
		sizes[c.Path] = s
	}
	need, order := map[string]*Shortage{}, []string{}
	for _, p := range paths {
		growth := sizes[p].after - sizes[p].before
		if growth <= 0 {
			continue
		}
		space, err := spaceAt(r, p)
		if err != nil {
			return nil, err
		}
		if need[space.Filesystem] == nil {
			need[space.Filesystem] = &Shortage{Folder: path.Dir(p), Free: space.Free}
			order = append(order, space.Filesystem)
		}
		need[space.Filesystem].Need += growth
	}
	var short []Shortage
	for _, id := range order {
		if s := *need[id]; s.Need > s.Free {
			short = append(short, s)
		}
	}
	return short, nil
}

// blocks is what something takes on a file system: nothing but files count, and
// folders, which may need a block.
func blocks(s State) int64 {
	switch s.Kind {
	case Folder:
		return block
	case File:
		return (s.Size + block - 1) / block * block
	}
	return 0
}

// spaceAt is the space where a name is, or will be: that of the first folder
// above it that is there.
func spaceAt(r Reader, name string) (Space, error) {
	for {
		space, err := r.Space(name)
		if !errors.Is(err, fs.ErrNotExist) || name == "/" {
			return space, err
		}
		name = path.Dir(name)
	}
}
