package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
)

// Storages are absolute folders that disks go to instead of the migration's own, by the
// source's names for where they lie: a datastore's. Each holds disks of one migration.
type Storages map[string]string

func (s Storages) check() error {
	for from, to := range s {
		if from == "" || !filepath.IsAbs(to) {
			return fmt.Errorf("%w: storage %q=%q: want the source's name for it, and an absolute folder", source.ErrBadInput, from, to)
		}
	}
	return nil
}

// elsewhere is the folder that disk i goes to instead of the migration's; "" if it is to
// go there, or to a device.
func (m *Migration) elsewhere(i int) string {
	if m.Options.Devices[i] != "" || m.Machine.Disks[i].Storage == "" {
		return ""
	}
	return m.Options.Storages[m.Machine.Disks[i].Storage]
}

// makeFolders makes those that disks go to, of a migration that converts. One of another
// migration is refused: each would take the other's files for its own.
func (r *Run) makeFolders() error {
	if r.Stage("convert").State == Skipped {
		return nil
	}
	for i := range r.Machine.Disks {
		folder := r.elsewhere(i)
		if folder == "" || folder == r.Folder {
			continue
		}
		if _, err := os.Lstat(filepath.Join(folder, recordFile)); err == nil {
			return fmt.Errorf("%w: %s holds another migration: map the storage of disk %d to another folder, or choose another name", transfer.ErrTarget, folder, i)
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("%w: %w", transfer.ErrTarget, err)
		}
	}
	return nil
}

// dropElsewhere removes the disks of a migration that lie in other folders than its own,
// and the folders if nothing else is in them.
func (m *Migration) dropElsewhere(folder string) error {
	var failed []error
	for i := range m.Machine.Disks {
		if m.elsewhere(i) == "" {
			continue
		}
		to := m.target(folder, i)
		failed = append(failed, transfer.Discard(to, m.copyID(i)))
		if m.Undone { // which has removed what tells whose it is
			failed = append(failed, ignoreAbsent(os.Remove(to.Path)))
		}
		failed = append(failed, removeIfEmpty(filepath.Dir(to.Path)))
	}
	return errors.Join(failed...)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func removeIfEmpty(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || len(entries) > 0 {
		return nil
	}
	return errors.Join(err, os.Remove(folder))
}

// storageUnknownCode is the concern of a name in the map of storages that is none.
const storageUnknownCode = "source/storage-unknown"

// withStorages adds to a plan's concerns those of the map of storages. An approved plan
// may hold those of another map.
func (r *Run) withStorages(concerns []fixer.Concern) []fixer.Concern {
	concerns = slices.DeleteFunc(slices.Clone(concerns), func(c fixer.Concern) bool { return c.Code == storageUnknownCode })
	return append(concerns, r.Options.Storages.concerns(r.Migration)...)
}

// concerns tell which names of the map no disk has.
func (s Storages) concerns(m *Migration) (list []fixer.Concern) {
	lie := storagesOf(m.Machine)
	for _, from := range slices.Sorted(maps.Keys(s)) {
		if !slices.Contains(lie, from) {
			list = append(list, fixer.Concern{Level: fixer.Warning, Code: storageUnknownCode,
				Text: fmt.Sprintf("the storage %q is mapped, and no disk lies on it: %s", from, theyLie(lie)), Try: "write its name as the source has it"})
		}
	}
	return list
}

// storagesOf are the source's names for what a machine's disks lie on.
func storagesOf(m machine.Machine) (names []string) {
	for _, d := range m.Disks {
		if d.Storage != "" && !slices.Contains(names, d.Storage) {
			names = append(names, d.Storage)
		}
	}
	return names
}

func theyLie(names []string) string {
	if len(names) == 0 {
		return "this source has no names for where its disks lie"
	}
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, strconv.Quote(name))
	}
	return "they lie on " + strings.Join(quoted, ", ")
}
