package vsphere

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/durable"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/vmware"
)

// File is what a migration's folder says in of what was changed in vSphere.
const File = "vsphere.json"

// ledgerVersion is the version of the file that this program writes.
const ledgerVersion = 1

// kept is what outlives every process that works on a migration.
type kept struct {
	Version  int            `json:"version"`
	ID       string         `json:"id"` // what is made in vSphere is called by it
	Server   string         `json:"server,omitempty"`
	VM       string         `json:"vm,omitempty"` // MoRef
	Name     string         `json:"name,omitempty"`
	Live     bool           `json:"live,omitempty"`
	Snapshot string         `json:"snapshot,omitempty"` // MoRef of the one that is read
	Where    vmware.Where   `json:"where"`
	Traces   []vmware.Trace `json:"traces"`
}

// ledger is the file. It implements vmware.Ledger.
type ledger struct {
	path string
	mu   sync.Mutex
	kept kept
}

// openLedger takes up a migration's file, or begins one, which is written with the
// first thing that is kept.
func openLedger(folder, id string) (*ledger, error) {
	l := &ledger{path: filepath.Join(folder, File)}
	text, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		if id == "" {
			id = rand.Text()
		}
		l.kept = kept{Version: ledgerVersion, ID: id}
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &l.kept); err != nil {
		return nil, fmt.Errorf("%w: %s is damaged: %w", pipeline.ErrRecord, l.path, err)
	}
	if l.kept.Version != ledgerVersion {
		return nil, fmt.Errorf("%w: %s is of version %d, this program writes version %d", pipeline.ErrRecord, l.path, l.kept.Version, ledgerVersion)
	}
	return l, nil
}

// Owes tells whether a migration's folder says of something that was changed in vSphere
// and may still have to be taken back.
func Owes(folder string) (bool, error) {
	l, err := openLedger(folder, "")
	return err == nil && len(l.open()) > 0, err
}

// keep changes what is kept. It is on stable storage when keep returns.
func (l *ledger) keep(change func(*kept)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(change)
}

func (l *ledger) write(change func(*kept)) error {
	next := l.kept
	next.Traces = slices.Clone(l.kept.Traces)
	change(&next)
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Write(l.path, append(text, '\n')); err != nil {
		return err
	}
	l.kept = next
	return nil
}

// Note implements vmware.Ledger.
func (l *ledger) Note(t vmware.Trace) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.ID = fmt.Sprint(len(l.kept.Traces))
	return t.ID, l.write(func(k *kept) { k.Traces = append(k.Traces, t) })
}

// Settle implements vmware.Ledger.
func (l *ledger) Settle(id string, state vmware.State, made string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.kept.Traces, func(t vmware.Trace) bool { return t.ID == id })
	if i < 0 {
		return fmt.Errorf("%s has no trace %s", l.path, id)
	}
	return l.write(func(k *kept) {
		k.Traces[i].State = state
		if made != "" {
			k.Traces[i].Made = made
		}
	})
}

// Traces implements vmware.Ledger.
func (l *ledger) Traces() ([]vmware.Trace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.kept.Traces), nil
}

// open are the traces that may still have to be taken back.
func (l *ledger) open() []vmware.Trace {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.kept.Traces), func(t vmware.Trace) bool {
		return t.State != vmware.Noted && t.State != vmware.Made
	})
}

// ServerOf is the server of which a migration's folder says that something was changed
// there.
func ServerOf(folder string) (string, error) {
	l, err := openLedger(folder, "")
	if err != nil {
		return "", err
	}
	if l.kept.Server == "" {
		return "", fmt.Errorf("%w: %s has no %s: its migration has changed nothing in vSphere", source.ErrBadInput, folder, File)
	}
	return l.kept.Server, nil
}
