package inspect

import (
	"cmp"
	"io/fs"
	"strings"

	"hyper2kvm/fixers/guest"
)

// moved shows the files below one folder as if they were below another, and nothing
// else. A folder has no slash at its end; "" is the root.
type moved struct {
	guest.Reader
	from, to string // the folder as it is named, and where it is
}

func (m moved) at(name string) (string, error) {
	rest, ok := strings.CutPrefix(name, m.from)
	if !ok || rest != "" && rest[0] != '/' {
		return "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return cmp.Or(m.to+rest, "/"), nil
}

func (m moved) ReadFile(name string, limit int64) ([]byte, error) {
	at, err := m.at(name)
	if err != nil {
		return nil, err
	}
	return m.Reader.ReadFile(at, limit)
}

func (m moved) Lstat(name string) (guest.Info, error) {
	at, err := m.at(name)
	if err != nil {
		return guest.Info{}, err
	}
	return m.Reader.Lstat(at)
}

func (m moved) ReadDir(name string) ([]guest.Info, error) {
	at, err := m.at(name)
	if err != nil {
		return nil, err
	}
	return m.Reader.ReadDir(at)
}

func (m moved) Readlink(name string) (string, error) {
	at, err := m.at(name)
	if err != nil {
		return "", err
	}
	return m.Reader.Readlink(at)
}

func (m moved) Xattrs(name string) (map[string][]byte, error) {
	at, err := m.at(name)
	if err != nil {
		return nil, err
	}
	return m.Reader.Xattrs(at)
}

func (m moved) Space(name string) (guest.Space, error) {
	at, err := m.at(name)
	if err != nil {
		return guest.Space{}, err
	}
	return m.Reader.Space(at)
}
