package guest

import (
	"errors"
	"io/fs"
)

// Digester is a Reader that tells a file's size and SHA-256 without room for its content.
type Digester interface {
	// Digest is of a regular file of at most limit bytes; ErrTooBig beyond.
	Digest(name string, limit int64) (size int64, sha256 string, err error)
}

// StateOf reads everything that stands at name, a link's end not followed.
func StateOf(r Reader, name string) (State, error) {
	s, err := described(r, name)
	if s.Kind != File || err != nil {
		return s, err
	}
	if d, ok := r.(Digester); ok {
		s.Size, s.SHA256, err = d.Digest(name, MaxFile)
		return s, err
	}
	data, err := r.ReadFile(name, MaxFile)
	s.Size, s.SHA256 = int64(len(data)), digest(data)
	return s, err
}

// stateSince is StateOf of what had a state before. A file is read once more only if
// something else of it, its size or its times, is not what it was.
func stateSince(r Reader, name string, was State) (State, error) {
	if was.Kind != File {
		return StateOf(r, name)
	}
	s, err := described(r, name)
	if err != nil {
		return s, err
	}
	if s.Kind == File && s.Size == was.Size && s.Meta.sameAs(was.Meta) && s.Meta.MTime.Equal(was.Meta.MTime) {
		return was, nil
	}
	return StateOf(r, name)
}

// described is StateOf without a digest, of a file of the size that its folder tells.
func described(r Reader, name string) (s State, err error) {
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
	s = State{Kind: kindOf(info.Mode), Meta: Meta{Mode: info.Mode & ModeBits, UID: info.UID, GID: info.GID, Xattrs: xattrs, MTime: info.MTime}}
	switch s.Kind {
	case File:
		s.Size = info.Size
	case Symlink:
		s.Target, err = r.Readlink(name)
	}
	return s, err
}
