package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
)

// maxEntries is how many entries a folder may have that is listed.
const maxEntries = 100_000

// ErrCrowded is a folder with too many entries to list.
var ErrCrowded = errors.New("there are too many files in this folder")

// Find is a storage by its name, whatever it is for.
func (l List) Find(name string) (Storage, error) {
	i := slices.IndexFunc(l, func(s Storage) bool { return s.Name == name })
	if i < 0 {
		return Storage{}, fmt.Errorf("%w: this appliance reaches no storage %q; it reaches %s", ErrPlace, name, strings.Join(l.Names(), ", "))
	}
	return l[i], nil
}

// Entries are those of a folder after a name, by their names, and whether there are
// more. Names that are no UTF-8 are left out: no place can name them.
func (s Storage) Entries(folder, after string, limit int) (list []model.StorageFile, more bool, err error) {
	f, err := s.open(folder, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("%w: %s: %w", ErrPlace, folder, err)
	}
	if len(names) > maxEntries {
		return nil, false, fmt.Errorf("%w: %s has more than %d", ErrCrowded, folder, maxEntries)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n <= after || !utf8.ValidString(n) })
	slices.Sort(names)
	if more = len(names) > limit; more {
		names = names[:limit]
	}
	for _, name := range names {
		if e, err := entry(f, name); err == nil {
			list = append(list, e)
		} else if !errors.Is(err, fs.ErrNotExist) { // it went away meanwhile
			return nil, false, fmt.Errorf("%s: %w", path.Join(folder, name), err)
		}
	}
	return list, more, nil
}

// entry is one of a folder, and nothing of what a link leads to.
func entry(folder *os.File, name string) (e model.StorageFile, err error) {
	var s unix.Stat_t
	if err := unix.Fstatat(int(folder.Fd()), name, &s, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return e, err
	}
	e = model.StorageFile{Name: name, Kind: model.StorageFileKindOther, Changed: time.Unix(s.Mtim.Unix()).UTC()}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Kind, e.Size = model.StorageFileKindFile, s.Size
	case unix.S_IFDIR:
		e.Kind = model.StorageFileKindFolder
	case unix.S_IFLNK:
		e.Kind = model.StorageFileKindLink
	}
	return e, nil
}

// Open opens a regular file for reading. Links to it may not leave the storage.
func (s Storage) Open(name string) (*os.File, error) {
	if err := checkPath(name); err != nil {
		return nil, err
	}
	f, err := s.open(name, unix.O_RDONLY|unix.O_NONBLOCK) // a pipe would wait for its writer
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s: is no file: %w", name, fs.ErrNotExist), err, f.Close())
	}
	return f, nil
}

// Folder opens the folder that a file is in or is to be put into, and tells the file's
// name in it. Links to the folder may not leave the storage.
func (s Storage) Folder(name string) (folder *os.Root, base string, err error) {
	if err := checkPath(name); err != nil {
		return nil, "", err
	}
	f, err := s.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	folder, err = os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return folder, path.Base(name), err
}

// open opens what a name leads to, which is in the storage.
func (s Storage) open(name string, flags int) (*os.File, error) {
	if name == "" {
		name = "."
	}
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("%w: %q is no path in a storage: write it without a slash at its start, and without .. in it", ErrPlace, name)
	}
	top, err := os.Open(s.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlace, err)
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), name, &unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	switch {
	case errors.Is(err, unix.EXDEV):
		return nil, fmt.Errorf("%w: %s leads out of its storage", ErrPlace, name)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return nil, fmt.Errorf("%s: %w in the storage %s", name, fs.ErrNotExist, s.Name)
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrPlace, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Key is what a file is known by among those of all storages.
func Key(storage, name string) string { return storage + "/" + name }

// Locate is Folder, by a file's key.
func (l List) Locate(key string) (folder *os.Root, base string, err error) {
	storage, name, _ := strings.Cut(key, "/")
	s, err := l.Find(storage)
	if err != nil {
		return nil, "", err
	}
	return s.Folder(name)
}
