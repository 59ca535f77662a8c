package guest

import (
	"errors"
	"io/fs"
)

// StateOf reads everything that stands at name, a link's end not followed.
func StateOf(r Reader, name string) (State, error) {
	s, data, err := read(r, name)
	if s.Kind == File && err == nil {
		s.SHA256 = digest(data)
	}
	return s, err
}

// read is StateOf without a digest, and a file's content.
func read(r Reader, name string) (s State, data []byte, err error) {
	info, err := r.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Kind: Absent}, nil, nil
	}
	if err != nil {
		return State{}, nil, err
	}
	xattrs, err := r.Xattrs(name)
	if err != nil {
		return State{}, nil, err
	}
	s = State{Kind: kindOf(info.Mode), Meta: Meta{Mode: info.Mode & ModeBits, UID: info.UID, GID: info.GID, Xattrs: xattrs, MTime: info.MTime}}
	switch s.Kind {
	case File:
		data, err = r.ReadFile(name, MaxFile)
		s.Size = int64(len(data))
	case Symlink:
		s.Target, err = r.Readlink(name)
	}
	return s, data, err
}
