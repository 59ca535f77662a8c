package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
)

// ErrSourceChanged is a source that is not the one that was fetched.
var ErrSourceChanged = errors.New("the source changed")

// fetch reads the machine's record and opens its disks read-only.
func (r *Run) fetch(ctx context.Context) error {
	m, err := source.Read(ctx, r.Options.Source, r.Options.AllowFolders)
	if err != nil {
		return err
	}
	r.Machine, r.Sources = m, nil
	if err := r.mayGrow(); err != nil {
		return err
	}
	if err := r.checkDevices(); err != nil {
		return fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	chains, err := r.chains(ctx)
	if err != nil {
		return err
	}
	for _, f := range r.sourceFiles(chains) {
		id, err := identify(f)
		if err != nil {
			return fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		r.Sources = append(r.Sources, id)
	}
	if err := r.open(ctx, chains); err != nil {
		return err
	}
	return r.sameSources()
}

// openSources serves the source's disks again, which must be those that were
// fetched.
func (r *Run) openSources(ctx context.Context) error {
	if err := r.sameSources(); err != nil {
		return err
	}
	chains, err := r.chains(ctx)
	if err != nil {
		return err
	}
	if was, now := r.sourcePaths(), r.sourceFiles(chains); !slices.Equal(was, now) {
		return fmt.Errorf("%w: its files were %q and are %q; remove %s and migrate again", ErrSourceChanged, was, now, r.Folder)
	}
	return r.open(ctx, chains)
}

// chains are the machine's disks with all that they stand on.
func (r *Run) chains(ctx context.Context) (list []*disk.Chain, err error) {
	for _, d := range r.Machine.Disks {
		c, err := disk.ReadChain(ctx, d.Path, d.Format, source.Folders(r.Options.Source, r.Options.AllowFolders))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		list = append(list, c)
	}
	return list, nil
}

// sourceFiles are the files that must not change: the VMX file, which VMware
// writes when the machine is started, and all those of its disks.
func (r *Run) sourceFiles(chains []*disk.Chain) (files []string) {
	if r.Machine.Source != machine.Guess {
		files = append(files, r.Machine.Source)
	}
	for _, c := range chains {
		for _, f := range c.Files() {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files
}

// sourcePaths are the files that FETCH found.
func (r *Run) sourcePaths() (list []string) {
	for _, id := range r.Sources {
		list = append(list, id.Path)
	}
	return list
}

// open serves the disks, with which nobody else may work.
func (r *Run) open(ctx context.Context, chains []*disk.Chain) error {
	if r.Machine.Source != machine.Guess {
		if err := disk.InUse(r.Machine.Source); err != nil {
			return fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
	}
	for _, c := range chains {
		if err := c.InUse(); err != nil {
			return fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		s, err := c.Open(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		r.sources = append(r.sources, s)
	}
	return nil
}

// sameSources notices a source that was written meanwhile: what was inspected
// and what would be copied are then different disks.
func (r *Run) sameSources() error {
	for _, was := range r.Sources {
		now, err := identify(was.Path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSourceChanged, err)
		}
		if was.CTime.IsZero() { // the record of an earlier program
			was.CTime = now.CTime
		}
		if now.Size != was.Size || !now.MTime.Equal(was.MTime) || !now.CTime.Equal(was.CTime) {
			return fmt.Errorf("%w: %s was written or replaced at %v; power the source off, remove %s and migrate again", ErrSourceChanged, was.Path, now.CTime, r.Folder)
		}
	}
	return nil
}
