package firstboot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"hyper2kvm/pipeline/durable"
)

// partPrefix begins the names of files that are being written: no program reads those.
const partPrefix = ".hyper2kvm-"

// apply makes the files that first boot owns what is wanted, and returns the paths of
// those that it changed. It stops at the first that cannot be: those before it are as
// they are wanted, and the others as they were.
func apply(root string, want []file) (changed []string, err error) {
	for _, f := range want {
		did, err := f.write(root)
		if err != nil {
			return changed, fmt.Errorf("/%s: %w", f.path, err)
		}
		if did {
			changed = append(changed, "/"+f.path)
		}
	}
	for _, path := range slices.Backward(owned) {
		if slices.ContainsFunc(want, func(f file) bool { return f.path == path }) {
			continue
		}
		switch err := os.Remove(filepath.Join(root, path)); {
		case err == nil:
			changed = append(changed, "/"+path)
		case !errors.Is(err, fs.ErrNotExist):
			return changed, err
		}
	}
	return changed, nil
}

// write puts a file in its place, whole or not at all, unless it is there already.
func (f file) write(root string) (changed bool, err error) {
	path := filepath.Join(root, f.path)
	folder := filepath.Dir(path)
	if err := makeFolder(folder, f.mode); err != nil {
		return false, err
	}
	if err := sweep(folder); err != nil {
		return false, err
	}
	if f.isThere(path) {
		return false, nil
	}
	part, err := os.CreateTemp(folder, partPrefix+"*")
	if err != nil {
		return false, err
	}
	_, err = part.WriteString(f.text)
	if err := errors.Join(err, part.Chmod(f.mode), part.Sync(), part.Close()); err != nil {
		return false, errors.Join(err, os.Remove(part.Name()))
	}
	if err := durable.Rename(part.Name(), path); err != nil {
		return false, errors.Join(err, os.RemoveAll(part.Name()))
	}
	return true, nil
}

// makeFolder makes the folder of a file: a private one's is private too.
func makeFolder(folder string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return err
	}
	own := fs.FileMode(0o755)
	if mode&0o077 == 0 {
		own = 0o700
	}
	if err := os.Mkdir(folder, own); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (f file) isThere(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != f.mode {
		return false
	}
	text, err := os.ReadFile(path)
	return err == nil && bytes.Equal(text, []byte(f.text))
}

// sweep removes what a boot has left that was cut off.
func sweep(folder string) error {
	left, err := filepath.Glob(filepath.Join(folder, partPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
