package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/source"
)

// Errors of a source that is looked at again.
var (
	// ErrSourceChanged is one that is not the one that was fetched.
	ErrSourceChanged = errors.New("the source changed")
	// ErrUnsure is one that looks as it did, and may have changed all the same.
	ErrUnsure = errors.New("it is not known whether the source changed")
)

// fetch reads the machine's record and opens its disks read-only.
func (r *Run) fetch(ctx context.Context) error {
	m, err := r.origin.Fetch(ctx)
	if err != nil {
		return err
	}
	r.Machine, r.Sources, r.Concerns = m, nil, r.origin.Concerns()
	if err := r.mayGrow(); err != nil {
		return err
	}
	if err := r.checkDevices(); err != nil {
		return fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	if err := r.makeFolders(); err != nil {
		return fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	if err := r.checkFiles(); err != nil {
		return fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	if r.sources, r.Sources, err = r.origin.Open(ctx, m); err != nil {
		return err
	}
	return r.sameSources(ctx)
}

// openSources serves the source's disks again, which must be those that were
// fetched.
func (r *Run) openSources(ctx context.Context) (err error) {
	if err := r.sameSources(ctx); err != nil {
		return err
	}
	var now []Identity
	if r.sources, now, err = r.origin.Open(ctx, r.Machine); err != nil {
		return err
	}
	if was, now := paths(r.Sources), paths(now); !slices.Equal(was, now) {
		return fmt.Errorf("%w: its files were %q and are %q; remove %s and migrate again", ErrSourceChanged, was, now, r.Folder)
	}
	return nil
}

func paths(ids []Identity) (list []string) {
	for _, id := range ids {
		list = append(list, id.Path)
	}
	return list
}

// sameSources notices a source that was written meanwhile.
func (r *Run) sameSources(ctx context.Context) error {
	err := r.same(ctx)
	if errors.Is(err, ErrSourceChanged) {
		return fmt.Errorf("%w, remove %s and migrate again", err, r.Folder)
	}
	return err
}

// same is Origin.Same. What cannot be found out ends no migration, and the report says it.
func (r *Run) same(ctx context.Context) error {
	err := r.origin.Same(ctx, r.Sources)
	if errors.Is(err, ErrUnsure) {
		r.unsure(err)
		return nil
	}
	return err
}

// unsure has the report say, once, that a source may have changed.
func (r *Run) unsure(err error) {
	c := fixer.Concern{Level: fixer.Warning, Code: "source/unsure", Text: err.Error(),
		Try: "find out whether somebody started the source since it was read: what was copied is out of date then"}
	if !slices.Contains(r.Concerns, c) {
		r.log.Warn("whether the source changed is not known", "migration", r.Name, "err", err)
		r.Concerns = append(r.Concerns, c)
	}
}
