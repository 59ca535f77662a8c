package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hyper2kvm/pipeline/durable"
)

// Discard removes what the migration of an ID has made in a folder, and the folder if
// nothing else is in it. It may be called again when it was interrupted. A folder
// without a migration, or with another one, is left as it is. Others are names of files
// that the migration's origin has made there and needs no more.
func Discard(folder, id string, others ...string) (err error) {
	lock, err := lock(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	m, err := LoadMigration(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return removeEmpty(folder)
	}
	if err != nil {
		return err
	}
	if m.ID != id {
		return fmt.Errorf("%w: %s holds another migration", ErrRecord, folder)
	}
	if err := m.dropElsewhere(folder); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries { // the record goes last: it says what the others are
		if e.Name() != recordFile && (madeBy(m.Name, e.Name()) || slices.Contains(others, strings.TrimSuffix(e.Name(), durable.Part))) {
			if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(filepath.Join(folder, recordFile)); err != nil {
		return err
	}
	return removeEmpty(folder)
}

// madeBy tells whether a migration of a name makes a file of this one.
func madeBy(name, file string) bool {
	switch file {
	case workFolder, "evidence", "hooks.json", "hooks.json" + durable.Part, recordFile + durable.Part:
		return true
	}
	return file == name+".xml" || strings.HasPrefix(file, name+"-disk") || strings.HasPrefix(file, name+"-report.") || strings.HasPrefix(file, name+"-boot.") || file == name+".xml"+durable.Part
}

// removeEmpty removes a folder in which nothing but its lock is.
func removeEmpty(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != lockFile {
		return err
	}
	return os.RemoveAll(folder)
}
