package update

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// esp is one, with all that is done to its files: one thing after another is on stable
// storage, so what power that goes leaves is what was there between two of them.
type esp struct {
	folder string
	did    func(what string) error // told after each of them
}

func (e esp) path(name string) string { return filepath.Join(e.folder, name) }

// put writes a file, whole or not at all.
func (e esp) put(name string, from io.Reader) error {
	part := e.path(name + ".part")
	if err := os.MkdirAll(filepath.Dir(part), 0o755); err != nil {
		return err
	}
	f, err := os.Create(part)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := e.did("write " + name + ".part"); err != nil {
		return err
	}
	return e.move(name+".part", name)
}

func (e esp) move(from, to string) error {
	if err := os.Rename(e.path(from), e.path(to)); err != nil {
		return err
	}
	return errors.Join(e.sync(), e.did("name "+to))
}

// change writes over the beginning of a file, where that is.
func (e esp) change(name string, content []byte) error {
	f, err := os.OpenFile(e.path(name), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	return errors.Join(err, f.Sync(), f.Close(), e.did("change "+name))
}

// remove removes what has a name, and what is in it.
func (e esp) remove(name string) error {
	return errors.Join(os.RemoveAll(e.path(name)), e.sync(), e.did("remove "+name))
}

func (e esp) sync() error {
	f, err := os.Open(e.folder)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// free is how much room there is, in bytes.
func (e esp) free() (int64, error) {
	var s unix.Statfs_t
	err := unix.Statfs(e.folder, &s)
	return int64(s.Bavail) * s.Bsize, err
}
