package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/durable"
)

// What the files of a copy are called, beside the target's own name.
const (
	partial   = ".partial"  // what a file is called until it is whole
	manifests = ".manifest" // instead of the format's extension
	journals  = ".journal"  // the same, until the target is whole
)

// Manifest is where the manifest of a target is.
func (t Target) Manifest() string { return t.beside(manifests) }

// beside is the name of a file that goes with the target.
func (t Target) beside(extension string) string {
	if t.Device {
		return t.Beside + extension
	}
	return strings.TrimSuffix(t.Path, filepath.Ext(t.Path)) + extension
}

func (t Target) journal() string { return t.beside(journals) }

// work is what is written to until the target is whole.
func (t Target) work() string {
	if t.Device {
		return t.Path
	}
	return t.Path + partial
}

// vacant is ErrTarget when a file already has the target's name or its
// manifest's, or a device holds something. The manifest of the copy which is called
// id is in nobody's way.
func (t Target) vacant(id string) error {
	if err := t.Fits(); err != nil {
		return err
	}
	if !t.Device {
		if err := absent(t.Path); err != nil {
			return err
		}
	}
	m, err := openManifest(t.Manifest(), os.O_RDONLY)
	if err == nil {
		defer m.close()
		if m.ID == id {
			return nil
		}
	}
	return absent(t.Manifest())
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

// finished tells whether the copy that is called id has given its manifest and the
// target their final names: the last that it does.
func (t Target) finished(id string) (bool, error) {
	if _, err := os.Lstat(t.Path); err != nil {
		return false, ignoreAbsent(err)
	}
	m, err := openManifest(t.Manifest(), os.O_RDONLY)
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
// and are not that copy's. A device that was begun has nothing at its start.
func Discard(t Target, id string) error {
	mine, err := t.finished(id)
	if err != nil {
		return err
	}
	owner, known := t.atWork()
	begun := !known || owner == id
	var failed []error
	if t.Device && (mine || known && owner == id) {
		failed = append(failed, t.wipe())
	}
	var names []string
	if begun {
		names = []string{t.Manifest() + partial, t.journal()}
	}
	if begun && !t.Device {
		names = append(names, t.work())
	}
	if mine && !t.Device {
		names = append(names, t.Path)
	}
	for _, name := range names {
		failed = append(failed, ignoreAbsent(os.Remove(name)))
	}
	return errors.Join(append(failed, discardManifest(t.Manifest(), id))...)
}

// atWork is the ID of the copy or the delta that has begun and not ended; unknown
// where none has, or where it was killed before it could say so.
func (t Target) atWork() (id string, known bool) {
	if f, err := os.Open(t.journal()); err == nil {
		defer f.Close()
		if h, _, err := readJournalHeader(f); err == nil {
			return h.ID, true
		}
	}
	f, err := os.Open(t.Manifest() + partial)
	if err != nil {
		return "", false
	}
	defer f.Close()
	h, err := readHeader(f)
	return h.ID, err == nil
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
func (t Target) publish() error {
	finals := []string{t.Manifest()}
	if !t.Device {
		finals = append(finals, t.Path)
	}
	for _, final := range finals {
		if err := rename(final+partial, final); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := os.Lstat(final); err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
	}
	return errors.Join(durable.Sync(filepath.Dir(t.Manifest())), ignoreAbsent(os.Remove(t.journal())))
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
