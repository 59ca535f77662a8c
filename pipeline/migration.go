package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/durable"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/testers"
)

// recordVersion is the version of the record that this program writes.
const recordVersion = 3

// Names in a migration's folder.
const (
	recordFile = "migration.json"
	lockFile   = "lock"
	workFolder = "work"
)

// Errors that callers decide on.
var (
	// ErrRecord is a record that cannot be gone on with.
	ErrRecord = errors.New("cannot use the migration's record")
	// ErrBusy is a migration on which another process works.
	ErrBusy = errors.New("another process works on this migration")
)

// Migration is one guest's move: the record that survives every crash and that
// the report is made of. It is saved whole after each stage.
type Migration struct {
	Version  int               `json:"version"`
	Program  string            `json:"program"` // version of the program that began it
	ID       string            `json:"id"`      // tells this migration from all others
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Options  Options           `json:"options"`
	Stages   []Record          `json:"stages"`
	Machine  machine.Machine   `json:"machine"`
	Sources  []Identity        `json:"sources"`            // of all the source's files, as FETCH found them
	Concerns []fixer.Concern   `json:"concerns,omitempty"` // of the origin's
	Carried  []Carried         `json:"carried,omitempty"`
	Accel    accel.Choice      `json:"accelerator"`
	Engine   Engine            `json:"engine"`
	Facts    *inspect.Facts    `json:"facts,omitempty"`
	Fixed    *inspect.Facts    `json:"fixed,omitempty"` // the facts after FIX
	Checks   Checks            `json:"checks,omitzero"`
	Plan     *fixers.Plan      `json:"plan,omitempty"`
	Undo     []guest.Change    `json:"undo,omitempty"`   // the inverse of the plan's changes
	Again    *fixers.Plan      `json:"again,omitempty"`  // what planning after FIX gave
	Expect   *testers.Expect   `json:"expect,omitempty"` // what the proof asks for
	Domain   *machine.Domain   `json:"domain,omitempty"`
	Disks    []transfer.Result `json:"disks,omitempty"` // all of them, once CONVERT came to its end
	Outcome  *testers.Outcome  `json:"proof,omitempty"`
	Undone   bool              `json:"undone,omitempty"`
	// Returned is a source that was given back before the migration was finished: it
	// may have changed since, and whoever goes on begins anew.
	Returned bool `json:"returned,omitempty"`
	// Leaving is a source that a run has begun to leave as its end wants it, and has not
	// been heard of since.
	Leaving bool `json:"leaving,omitempty"`
}

// Options is what the operator asked for.
type Options struct {
	Source string     `json:"source"`
	Shape  disk.Shape `json:"shape"` // of the target's disks
	// Devices are block devices, absolute, that disks go to instead of files, by the
	// disks' indexes. Those that hold something are taken only to be overwritten.
	Devices   map[int]string    `json:"devices,omitempty"`
	Overwrite bool              `json:"overwrite,omitempty"`
	Storages  Storages          `json:"storages,omitempty"`
	Engine    string            `json:"engine"`             // auto, direct, libguestfs
	Hardware  string            `json:"hardware,omitempty"` // that TEST boots on: OnKVM or OnVMware
	With      string            `json:"with,omitempty"`     // what runs the tested machine: WithQEMU or WithLibvirt
	Connect   string            `json:"connect,omitempty"`  // URI of the libvirt to test with; libvirt.DefaultURI if empty
	Until     string            `json:"until,omitempty"`    // the last stage to run; all if empty
	Skip      map[string]string `json:"skip,omitempty"`     // stage to the reason
	Target    Overrides         `json:"target,omitzero"`    // what the target has otherwise
	Plan      *fixers.Plan      `json:"plan,omitempty"`     // an approved plan, applied instead of a new one
	Grow      []Growth          `json:"grow,omitempty"`     // disks to make larger
	// AllowFolders are absolute: a disk's other files may lie in them, besides
	// the folder of the file that names them.
	AllowFolders []string `json:"allow_folders,omitempty"`
}

// State of a stage.
type State string

// The states of a stage.
const (
	Pending State = "pending"
	Running State = "running"
	Done    State = "done"
	Skipped State = "skipped"
	Failed  State = "failed"
)

// Record is what became of one stage.
type Record struct {
	Name   string        `json:"name"`
	State  State         `json:"state"`
	Reason string        `json:"reason,omitempty"` // why it was skipped or failed
	Began  time.Time     `json:"began,omitzero"`
	Took   time.Duration `json:"took,omitempty"`
}

// Identity tells a source's file from what it was and from another that took
// its place. The time of its last change (ctime) cannot be set back; inode
// numbers say nothing where the kernel makes them up, as for sshfs.
type Identity struct {
	Path  string    `json:"path"`
	Size  int64     `json:"size"` // of the file or the device, bytes
	MTime time.Time `json:"mtime"`
	CTime time.Time `json:"ctime,omitzero"`
}

// Engine is the way that was taken to the guest's files.
type Engine struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Stage finds a stage's record.
func (m *Migration) Stage(name string) *Record {
	for i := range m.Stages {
		if m.Stages[i].Name == name {
			return &m.Stages[i]
		}
	}
	return nil
}

// Finished tells whether no stage is left to run.
func (m *Migration) Finished() bool {
	for _, s := range m.Stages {
		if s.State != Done && s.State != Skipped {
			return false
		}
	}
	return len(m.Stages) > 0
}

// LoadMigration reads the record in a migration's folder; fs.ErrNotExist if
// there is none.
func LoadMigration(folder string) (*Migration, error) {
	text, err := os.ReadFile(filepath.Join(folder, recordFile))
	if err != nil {
		return nil, err
	}
	m := &Migration{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w: %s is damaged: %w", ErrRecord, filepath.Join(folder, recordFile), err)
	}
	if m.Version != recordVersion {
		return nil, fmt.Errorf("%w: %s is of version %d, this program writes version %d; finish it with the program that began it (%s)",
			ErrRecord, filepath.Join(folder, recordFile), m.Version, recordVersion, m.Program)
	}
	if !slices.EqualFunc(m.Stages, StageNames(), func(r Record, name string) bool { return r.Name == name }) {
		return nil, fmt.Errorf("%w: %s is damaged: its stages are not this program's", ErrRecord, filepath.Join(folder, recordFile))
	}
	return m, nil
}

// save replaces the record in the folder, whole or not at all.
func (m *Migration) save(folder string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(folder, recordFile), append(text, '\n'))
}

// lock makes this process the only one to work on the folder's migration. The
// kernel lets go of it when the process ends, however that is.
func lock(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s", ErrBusy, folder)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// identify reads what tells a source's disk from another.
func identify(path string) (Identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Identity{}, err
	}
	if info.Mode()&fs.ModeDevice != 0 { // its node's times are not its data's
		size, err := deviceSize(path)
		return Identity{Path: path, Size: size}, err
	}
	changed := info.Sys().(*syscall.Stat_t).Ctim
	return Identity{Path: path, Size: info.Size(), MTime: info.ModTime(), CTime: time.Unix(changed.Unix())}, nil
}

func deviceSize(path string) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Seek(0, io.SeekEnd)
}
