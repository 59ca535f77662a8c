package pipeline

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf8"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/libguestfs"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/durable"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
)

// Config is what a run is made with.
type Config struct {
	Folder  string // of the migration; made if it does not exist
	Name    string // of the domain and of the results' files; the folder's name if empty
	Version string // of the program
	Log     *slog.Logger
	Tell    func(Event) // called from one goroutine at a time; may be nil
	// Keys open what is encrypted. They are in no record: whoever goes on with a
	// migration, tests or undoes it, gives them again. Close wipes them.
	Keys *guest.Keyring
	// Limits are those of the speed at which sources are read.
	Limits []transfer.Limit
	// ID is that of a migration that begins; made up if empty.
	ID string
	// Origin is where the guest comes from; the files that Options.Source names if nil.
	Origin Origin
	// Before is called before each stage that is to run; with an error the run ends
	// there, and goes on with that stage when it is opened again. It may be nil.
	Before func(m *Migration, stage string) error
}

// Open begins a migration in a folder, or goes on with the one that is there:
// a run that was killed is gone on with at the stage where it was. A folder
// with another migration, with a finished one, or with other files is ErrRecord.
func Open(c Config, o Options) (*Run, error) {
	o.Shape.Format = cmp.Or(o.Shape.Format, disk.QCOW2)
	if o.Plan != nil && o.Grow == nil {
		o.Grow = approvedGrowth(*o.Plan)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	folder, err := newFolder(c.Folder)
	if err != nil {
		return nil, err
	}
	lock, err := lock(folder)
	if err != nil {
		return nil, err
	}
	r := newRun(c, folder, lock)
	err = r.load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = r.begin(cmp.Or(c.ID, rand.Text()), c.Name, o)
	case err == nil:
		err = r.mayResume(o)
	}
	if err == nil {
		err = os.MkdirAll(r.work(""), 0o755)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	r.fromFiles()
	return r, nil
}

// check refuses options that would be taken for something else.
func (o Options) check() error {
	if o.Until != "" && !slices.Contains(StageNames(), o.Until) {
		return fmt.Errorf("%w: there is no stage %q", source.ErrBadInput, o.Until)
	}
	for name := range o.Skip {
		if !slices.Contains(StageNames(), name) {
			return fmt.Errorf("%w: there is no stage %q", source.ErrBadInput, name)
		}
	}
	if !slices.Contains([]string{"", Auto, Direct, Libguestfs}, o.Engine) {
		return fmt.Errorf("%w: there is no engine %q", source.ErrBadInput, o.Engine)
	}
	if _, ok := hypervisors[o.With]; !ok {
		return fmt.Errorf("%w: there is nothing to test with that is called %q", source.ErrBadInput, o.With)
	}
	if o.With != WithQEMU && o.Hardware == OnVMware {
		return fmt.Errorf("%w: hardware like VMware's is no emitted domain: it is tested with QEMU alone", source.ErrBadInput)
	}
	if o.Shape.Format == disk.VHDX && o.With == WithLibvirt {
		return fmt.Errorf("%w: libvirt knows no VHDX: test it with QEMU, or choose another format", source.ErrBadInput)
	}
	if err := errors.Join(o.Target.check(), o.Storages.check()); err != nil {
		return err
	}
	if err := o.Shape.Check(); err != nil {
		return fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	if o.Plan != nil && o.Plan.Changes == nil { // a plan without changes has an empty list
		return fmt.Errorf("%w: the plan has no list of changes", source.ErrBadInput)
	}
	return nil
}

// newFolder makes the migration's folder, or finds that it is one already or
// is empty. Files of others stay: the folder may be the source's own.
func newFolder(name string) (string, error) {
	folder, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(folder) {
		return "", fmt.Errorf("%w: the folder's name %q is not UTF-8", transfer.ErrTarget, folder)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("%w: %w", transfer.ErrTarget, err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", fmt.Errorf("%w: %w", transfer.ErrTarget, err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	for _, e := range entries {
		if !has(recordFile) && e.Name() != lockFile && e.Name() != recordFile+durable.Part {
			return "", fmt.Errorf("%w: %s holds other files (%q) and no migration; choose another folder", ErrRecord, folder, e.Name())
		}
	}
	return folder, nil
}

// reconnect is how long the server of a disk is dialed again that has ended a connection.
// It is a child of ours, which answers at once if it lives.
const reconnect = 10 * time.Second

func newRun(c Config, folder string, lock *os.File) *Run {
	copier := transfer.Parallel{Limits: c.Limits, Reconnect: reconnect}
	r := &Run{Folder: folder, log: c.Log, tell: c.Tell, copier: copier, reader: copier, fixers: fixers.All, engine: withKeys(c.Keys), keys: c.Keys, packaged: libguestfs.Available, noDirect: direct.Probe, noMapper: direct.NoMapper, machines: hypervisors, accel: accel.Probe, version: c.Version, before: c.Before, lock: lock, origin: c.Origin}
	if r.tell == nil {
		r.tell = func(Event) {}
	}
	return r
}

// fromFiles has a guest come from files if nothing else was said.
func (r *Run) fromFiles() {
	if r.origin == nil {
		r.origin = files{r.Options.Source, r.Options.AllowFolders}
	}
}

// load reads the folder's record. The disks are where the folder is now.
func (r *Run) load() (err error) {
	if r.Migration, err = LoadMigration(r.Folder); err != nil {
		return err
	}
	for i := range r.Disks {
		r.Disks[i].Path = r.diskPath(i)
	}
	return nil
}

func (r *Run) begin(id, name string, o Options) error {
	if name == "" {
		name = filepath.Base(r.Folder)
	}
	r.Migration = &Migration{Version: recordVersion, Program: r.version, ID: id, Name: name, Created: time.Now().UTC(), Options: o}
	until := slices.Index(StageNames(), o.Until)
	for i, s := range r.stages() {
		record := Record{Name: s.Name, State: Pending}
		if reason, ok := o.Skip[s.Name]; ok {
			record.State, record.Reason = Skipped, reason
		} else if until >= 0 && i > until {
			record.State, record.Reason = Skipped, "only asked to go as far as "+o.Until
		}
		r.Stages = append(r.Stages, record)
	}
	return r.save(r.Folder)
}

func (r *Run) mayResume(o Options) error {
	if r.Stage("inspect").State != Done {
		r.Options.Engine, r.Engine = o.Engine, Engine{} // the operator may have chosen it to get on
	}
	if r.Stage("test").State != Done {
		r.Options.With, r.Options.Connect = o.With, o.Connect // so may they have been
	}
	switch {
	case r.Options.Source != o.Source:
		return fmt.Errorf("%w: %s holds the migration of %s; choose another folder", ErrRecord, r.Folder, r.Options.Source)
	case r.Undone || r.halfUndone():
		return fmt.Errorf("%w: the migration in %s was undone; choose another folder, or remove it to migrate again", ErrRecord, r.Folder)
	case r.Finished() && !r.Leaving:
		return fmt.Errorf("%w: %s holds a finished run of %s; choose another folder, or remove it to begin again", ErrRecord, r.Folder, o.Source)
	case !r.Options.same(o):
		return fmt.Errorf("%w: %s holds an unfinished run with other options; finish it with those, or remove the folder", ErrRecord, r.Folder)
	}
	r.log.Info("going on with a migration", "migration", r.Name, "stage", r.unfinished())
	return nil
}

// same compares options as they are recorded.
func (o Options) same(p Options) bool {
	was, err := json.Marshal(o)
	now, failed := json.Marshal(p)
	return err == nil && failed == nil && bytes.Equal(was, now)
}

func (r *Run) unfinished() string {
	for _, s := range r.Stages {
		if s.State != Done && s.State != Skipped {
			return s.Name
		}
	}
	return ""
}
