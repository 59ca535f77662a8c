package pipeline

import (
	"context"
	"fmt"
	"slices"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
)

// files is the origin of a guest whose disks are files or block devices here. They are
// read and left alone.
type files struct {
	path    string   // of a VMX file or a disk
	allowed []string // folders besides its own
}

// Fetch implements Origin.
func (f files) Fetch(ctx context.Context) (machine.Machine, error) {
	return source.Read(ctx, f.path, f.allowed)
}

// Open implements Origin. Nobody else may work with the files.
func (f files) Open(ctx context.Context, m machine.Machine) (sources []*disk.Source, ids []Identity, err error) {
	chains, err := f.chains(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range filesOf(m, chains) {
		id, err := identify(path)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		ids = append(ids, id)
	}
	if m.Source != machine.Guess {
		if err := disk.InUse(m.Source); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
	}
	for _, c := range chains {
		s, err := openChain(ctx, c)
		if err != nil {
			return sources, nil, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		sources = append(sources, s)
	}
	return sources, ids, nil
}

func openChain(ctx context.Context, c *disk.Chain) (*disk.Source, error) {
	if err := c.InUse(); err != nil {
		return nil, err
	}
	return c.Open(ctx)
}

// chains are the machine's disks with all that they stand on.
func (f files) chains(ctx context.Context, m machine.Machine) (list []*disk.Chain, err error) {
	for _, d := range m.Disks {
		c, err := disk.ReadChain(ctx, d.Path, d.Format, source.Folders(f.path, f.allowed))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		list = append(list, c)
	}
	return list, nil
}

// filesOf are the files that must not change: the VMX file, which VMware writes when
// the machine is started, and all those of its disks.
func filesOf(m machine.Machine, chains []*disk.Chain) (list []string) {
	if m.Source != machine.Guess {
		list = append(list, m.Source)
	}
	for _, c := range chains {
		for _, f := range c.Files() {
			if !slices.Contains(list, f) {
				list = append(list, f)
			}
		}
	}
	return list
}

// Same implements Origin: what was inspected and what would be copied are different
// disks if one was written meanwhile.
func (files) Same(_ context.Context, was []Identity) error {
	for _, was := range was {
		now, err := identify(was.Path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSourceChanged, err)
		}
		if was.CTime.IsZero() { // the record of an earlier program
			was.CTime = now.CTime
		}
		if now.Size != was.Size || !now.MTime.Equal(was.MTime) || !now.CTime.Equal(was.CTime) {
			return fmt.Errorf("%w: %s was written or replaced at %v; power the source off", ErrSourceChanged, was.Path, now.CTime)
		}
	}
	return nil
}

// Doubt implements Origin: nothing is told of files but by themselves.
func (files) Doubt() {}

// Concerns implements Origin.
func (files) Concerns() []fixer.Concern { return nil }

// Carried implements Origin.
func (files) Carried() []Carried { return nil }

// Release implements Origin.
func (files) Release(context.Context, End) (bool, error) { return false, nil }
