package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/transfer"
)

// Verified is what came of reading one disk.
type Verified struct {
	Disk   int    `json:"disk"`
	Path   string `json:"path"`
	Source bool   `json:"source"` // it is a source, not a converted disk
	transfer.Verified
	Differs string `json:"differs,omitempty"` // how it is not what its manifest says
	err     error  // the same
}

// Verify reads the converted disks whole and compares them with what was copied;
// and with source the disks that they were made from too, which shows that every
// byte arrived which no fixer changed. Its error is transfer.ErrDiffers if one is
// another.
func (r *Run) Verify(ctx context.Context, source bool) (list []Verified, err error) {
	if r.Undone {
		return nil, fmt.Errorf("%w: it was undone, and there is nothing to verify it by", ErrRecord)
	}
	for i, d := range r.Disks {
		target, err := disk.OpenSource(ctx, d.Path, d.Format)
		if err != nil {
			return list, fmt.Errorf("disk %d: %w", i, err)
		}
		v, err := r.verify(ctx, i, target, Verified{Disk: i, Path: d.Path})
		if list = append(list, v); err != nil {
			return list, err
		}
	}
	if source {
		from, err := r.verifySources(ctx)
		if list = append(list, from...); err != nil {
			return list, err
		}
	}
	return list, verdict(list)
}

func (r *Run) verifySources(ctx context.Context) (list []Verified, err error) {
	if err := os.MkdirAll(r.work(""), 0o755); err != nil { // some transports keep there what they read
		return nil, err
	}
	defer func() {
		_, released := r.origin.Release(context.WithoutCancel(ctx), End{Interrupted: true, Err: err})
		err = errors.Join(err, released)
		_ = os.Remove(r.work("")) // unless a run needs what is in it
	}()
	r.origin.Doubt()
	if err := r.openSources(ctx); err != nil {
		return nil, err
	}
	sources := r.sources
	r.sources = nil
	for i, s := range sources {
		v, failed := r.verify(ctx, i, s, Verified{Disk: i, Path: r.Machine.Disks[i].Path, Source: true})
		list, err = append(list, v), errors.Join(err, failed)
	}
	return list, err
}

// verify reads one disk, and closes it.
func (r *Run) verify(ctx context.Context, i int, from *disk.Source, v Verified) (_ Verified, err error) {
	defer func() { err = errors.Join(err, from.Close()) }()
	r.tell(Event{Stage: "verify", State: Running, Text: "read " + v.Path})
	to := r.target(i)
	c := transfer.Check{Manifest: to.Manifest(), From: from.Export, Source: v.Source, Device: to.Device && !v.Source}
	v.Verified, err = r.reader.Verify(ctx, c, func(p transfer.Progress) {
		r.tell(Event{Stage: "verify", State: Running, Progress: &p, Disk: i})
	})
	switch {
	case errors.Is(err, transfer.ErrDiffers):
		v.Differs, v.err, err = err.Error(), err, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, transfer.ErrManifest):
		err = fmt.Errorf("%w: disk %d cannot be verified: %w", ErrRecord, i, err)
	}
	return v, err
}

func verdict(list []Verified) error {
	var wrong []error
	for _, v := range list {
		switch {
		case v.err != nil && v.Source:
			wrong = append(wrong, fmt.Errorf("disk %d of the source: %w", v.Disk, v.err))
		case v.err != nil:
			wrong = append(wrong, fmt.Errorf("disk %d: %w; a guest that was started from it has written to it", v.Disk, v.err))
		}
	}
	return errors.Join(wrong...)
}
