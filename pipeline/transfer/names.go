package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What the files of a copy are called, beside the target's own name.
const (
	partial   = ".partial"  // what a file is called until it is whole
	manifests = ".manifest" // instead of the format's extension
	journals  = ".journal"  // the same, until the target is whole
)

// beside is the name of a file that goes with the target.
func beside(target, extension string) string {
	return strings.TrimSuffix(target, filepath.Ext(target)) + extension
}

// ManifestPath is where the manifest of a target is.
func ManifestPath(target string) string { return beside(target, manifests) }

// vacant is ErrTarget when a file already has the target's name or its
// manifest's. That of the copy which is called id is in nobody's way.
func vacant(path, id string) error {
	if err := absent(path); err != nil {
		return err
	}
	m, err := openManifest(ManifestPath(path), os.O_RDONLY)
	if err == nil {
		defer m.close()
		if m.ID == id {
			return nil
		}
	}
	return absent(ManifestPath(path))
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s exists; move it away or choose another folder", ErrTarget, path)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return nil
}

// finished tells whether the copy that is called id has given the target its
// final name: the last that it does.
func finished(path, id string) (bool, error) {
	if _, err := os.Lstat(path); err != nil {
		return false, ignoreAbsent(err)
	}
	m, err := openManifest(ManifestPath(path), os.O_RDONLY)
	if errors.Is(err, ErrManifest) {
		return false, nil // somebody else's
	}
	if err != nil {
		return false, ignoreAbsent(err)
	}
	return m.ID == id && m.Content != "", m.close()
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Discard removes what the copy that is called id made of a target, whole or
// not. What another copy made stays, and so do files that have the final names
// and are not that copy's.
func Discard(path, id string) error {
	mine, err := finished(path, id)
	if err != nil {
		return err
	}
	var names []string
	if owner, known := atWork(path); !known || owner == id {
		names = []string{path + partial, ManifestPath(path) + partial, beside(path, journals)}
	}
	if mine {
		names = append(names, path)
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, ignoreAbsent(os.Remove(name)))
	}
	return errors.Join(append(failed, discardManifest(ManifestPath(path), id))...)
}

// atWork is the ID of the copy or the delta that has begun and not ended; unknown
// where none has, or where it was killed before it could say so.
func atWork(path string) (id string, known bool) {
	for _, name := range []string{beside(path, journals), ManifestPath(path) + partial} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		h, err := readHeader(f)
		f.Close()
		if err == nil {
			id, _, _ := strings.Cut(h.ID, "\n")
			return id, true
		}
	}
	return "", false
}

func discardManifest(path, id string) error {
	m, err := openManifest(path, os.O_RDONLY)
	if errors.Is(err, ErrManifest) {
		return nil // somebody else's
	}
	if err != nil {
		return ignoreAbsent(err)
	}
	if m.ID != id {
		return m.close()
	}
	return errors.Join(m.close(), os.Remove(path))
}

// publish gives the files of a whole copy their final names, the disk's last,
// never over other files. It can be run again after it was interrupted.
func publish(target string) error {
	for _, final := range []string{ManifestPath(target), target} {
		if err := rename(final+partial, final); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := os.Lstat(final); err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
	}
	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close(), ignoreAbsent(os.Remove(beside(target, journals))))
}

func rename(temporary, final string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temporary, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system that cannot: exFAT, NFS
		if _, err = os.Lstat(final); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(temporary, final)
		}
		err = unix.EEXIST
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %s: %w", ErrTarget, final, err)
	}
	return err
}
