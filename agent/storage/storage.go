// Package storage names the folders that the agent reads disks from and puts results
// into. Who uses the API names places in them, and reaches no other file of the
// appliance's.
package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
)

// Storage is a folder with a name.
type Storage struct {
	Name string
	Path string // absolute
	Use  model.StorageUse
}

// List is all storages that this appliance reaches.
type List []Storage

// Reached is what the storages of an appliance are now: a List, or a Set of which some
// come and go.
type Reached interface{ Now() List }

// Now implements Reached.
func (l List) Now() List { return l }

// ErrPlace is a place that cannot be used.
var ErrPlace = errors.New("cannot use this place")

// Names are the storages' names.
func (l List) Names() (names []string) {
	for _, s := range l {
		names = append(names, s.Name)
	}
	return names
}

// There is an error that names the storages that are no folders here.
func (l List) There() (err error) {
	for _, s := range l {
		if info, failed := os.Stat(s.Path); failed != nil || !info.IsDir() {
			err = errors.Join(err, fmt.Errorf("storage %s: %s is not a folder that is there", s.Name, s.Path))
		}
	}
	return err
}

// find is a storage for sources or for targets.
func (l List) find(name string, target bool) (Storage, error) {
	i := slices.IndexFunc(l, func(s Storage) bool { return s.Name == name })
	if i < 0 {
		return Storage{}, fmt.Errorf("%w: there is no storage %q; there are %s", ErrPlace, name, strings.Join(l.Names(), ", "))
	}
	s := l[i]
	if target && s.Use == model.StorageUseSource || !target && s.Use == model.StorageUseTarget {
		return s, fmt.Errorf("%w: the storage %s is for the use as %s alone", ErrPlace, name, s.Use)
	}
	return s, nil
}

// Check tells whether a place is well-formed and in a storage for its use.
func (l List) Check(p model.Place, target bool) error {
	if _, err := l.find(p.Storage, target); err != nil {
		return err
	}
	return checkPath(p.Path)
}

func checkPath(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: %q is no path in a storage: write it without a slash at its start, and without . or .. in it", ErrPlace, name)
	}
	return nil
}

// Path is the absolute path of a place. What symbolic links make of it stays in the
// storage. One for a result need not be there, but the folder that it is in must.
func (l List) Path(p model.Place, target bool) (string, error) {
	s, err := l.find(p.Storage, target)
	if err != nil {
		return "", err
	}
	if err := checkPath(p.Path); err != nil {
		return "", err
	}
	if target {
		folder, err := resolve(s.Path, path.Dir(p.Path))
		return filepath.Join(folder, path.Base(p.Path)), err
	}
	return resolve(s.Path, p.Path)
}

// resolve is where a name below a root leads, which is below it too.
func resolve(root, name string) (string, error) {
	top, err := os.Open(root)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPlace, err)
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	switch {
	case errors.Is(err, unix.EXDEV):
		return "", fmt.Errorf("%w: %s leads out of its storage", ErrPlace, name)
	case err != nil:
		return "", fmt.Errorf("%w: %s: %w", ErrPlace, name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// Room is how large a storage is, and how much of it is free, in bytes.
func (s Storage) Room() (size, free int64, err error) {
	var room unix.Statfs_t
	if err := unix.Statfs(s.Path, &room); err != nil {
		return 0, 0, fmt.Errorf("storage %s: %w", s.Name, err)
	}
	return int64(room.Blocks) * room.Bsize, int64(room.Bavail) * room.Bsize, nil
}
