package pipeline

import (
	"context"
	"errors"
	"fmt"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/source"
)

// ErrSourceChanged is a source that is not the one that was fetched.
var ErrSourceChanged = errors.New("the source changed")

// fetch reads the machine's record and opens its disks read-only.
func (r *Run) fetch(ctx context.Context) error {
	m, err := source.Read(ctx, r.Options.Source)
	if err != nil {
		return err
	}
	r.Machine, r.Sources = m, nil
	for _, d := range m.Disks {
		files, err := disk.Files(ctx, d.Path, d.Format)
		if err != nil {
			return fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		for _, f := range files {
			id, err := identify(f)
			if err != nil {
				return fmt.Errorf("%w: %w", source.ErrBadInput, err)
			}
			r.Sources = append(r.Sources, id)
		}
	}
	return r.openSources(ctx)
}

// openSources serves the source's disks, which must be those that were fetched.
func (r *Run) openSources(ctx context.Context) error {
	if err := r.sameSources(); err != nil {
		return err
	}
	for _, d := range r.Machine.Disks {
		s, err := disk.OpenSource(ctx, d.Path, d.Format)
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
		if now.Size != was.Size || !now.MTime.Equal(was.MTime) {
			return fmt.Errorf("%w: %s was written at %v; power the source off, remove %s and migrate again", ErrSourceChanged, was.Path, now.MTime, r.Folder)
		}
	}
	return nil
}
