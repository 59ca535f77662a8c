package vmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
)

// Sweep removes what dead processes left of migrations whose ledgers are lost: their
// snapshots, their clones, and the clones' disks from our own VM (empty: this program
// does not run in this vSphere). What is another migration's, or anybody else's, stays.
// Where there is a ledger, Restore knows more and comes first.
func (s *Session) Sweep(ctx context.Context, log *slog.Logger, own string, migrations ...string) error {
	for _, id := range migrations {
		if !migrationID.MatchString(id) {
			return fmt.Errorf("migration ID %q: want 1 to 40 letters, digits and dashes", id)
		}
	}
	all, err := s.everyVM(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, id := range migrations {
		traces, err := s.remains(ctx, all, own, id)
		h := Hand{Session: s, Migration: id, Ledger: &remains{traces: traces}, Log: log}
		problems = append(problems, err, h.Restore(ctx))
	}
	return errors.Join(problems...)
}

// everyVM is what is needed of all VMs to find what is ours.
func (s *Session) everyVM(ctx context.Context) (all []mo.VirtualMachine, err error) {
	v, err := view.NewManager(s.client).CreateContainerView(ctx, s.client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return nil, explain(err, "list the VMs")
	}
	defer func() { err = errors.Join(err, v.Destroy(context.WithoutCancel(ctx))) }()
	err = v.Retrieve(ctx, []string{"VirtualMachine"}, []string{"name", "parent", "snapshot"}, &all)
	for i := range all {
		all[i].Name = unescaped(all[i].Name)
	}
	return all, explain(err, "list the VMs")
}

// remains are traces of what is there of a migration, in the order in which it was made.
func (s *Session) remains(ctx context.Context, all []mo.VirtualMachine, own, id string) (traces []Trace, err error) {
	for _, v := range all {
		for snap := range branches(v.Snapshot) {
			if marked(snap, id) {
				t := snapshotTrace(v, snap.Name)
				t.Made = snap.Snapshot.Value
				traces = append(traces, t)
			}
		}
	}
	for _, v := range all {
		rest, ok := strings.CutPrefix(v.Name, mark(id, ""))
		source, _, parts := strings.Cut(rest, " ")
		if !ok || !parts || v.Parent == nil {
			continue
		}
		traces = append(traces, Trace{Kind: KindClone, Object: v.Parent.String(), Name: source, Part: vmRef(source).String(),
			Becomes: v.Name, Made: v.Self.Value})
		more, err := s.attachedOf(ctx, own, v)
		if err != nil {
			return nil, err
		}
		traces = append(traces, more...)
	}
	return traces, nil
}

// attachedOf are traces of a clone's disks that our own VM has.
func (s *Session) attachedOf(ctx context.Context, own string, clone mo.VirtualMachine) (traces []Trace, err error) {
	if own == "" {
		return nil, nil
	}
	disks, err := s.disksIn(ctx, clone.Self.Value, "")
	if err != nil {
		return nil, err
	}
	for _, d := range disks {
		if files := backingOf(d.Backing).files; len(files) > 0 {
			traces = append(traces, Trace{Kind: KindAttach, Object: vmRef(own).String(), Name: own, Part: clone.Self.String(), Becomes: files[0]})
		}
	}
	return traces, nil
}

// remains is the ledger of what was found; it need not outlive this process, as it can
// be found again.
type remains struct {
	mu     sync.Mutex
	traces []Trace
}

// Note keeps nothing: who sweeps changes nothing new.
func (r *remains) Note(Trace) (string, error) {
	return "", fmt.Errorf("%w: sweeping makes nothing", ErrCannot)
}

// Settle remembers what was swept.
func (r *remains) Settle(id string, state State, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, err := strconv.Atoi(id)
	if err == nil && i < len(r.traces) {
		r.traces[i].State = state
	}
	return err
}

// Traces are what was found.
func (r *remains) Traces() ([]Trace, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.traces)
	for i := range list {
		list[i].ID = strconv.Itoa(i)
		if list[i].State == "" {
			list[i].State = Noted
		}
	}
	return list, nil
}
