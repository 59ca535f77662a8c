package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/durable"
)

// undoReady names the file that says that the overlays of an undo are whole.
const undoReady = "undo.ready"

// Reopen takes up a migration that was converted, to test or undo it.
func Reopen(c Config) (*Run, error) {
	folder, err := filepath.Abs(c.Folder)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(folder, recordFile)); err != nil {
		return nil, fmt.Errorf("%w: %s holds no migration: %w", ErrRecord, folder, err)
	}
	lock, err := lock(folder)
	if err != nil {
		return nil, err
	}
	r := newRun(c, folder, lock)
	if err := r.reload(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	r.fromFiles()
	return r, nil
}

// Unplug has the result come up without its network, because its source is to run again.
func (r *Run) Unplug() error { return errors.Join(r.unplug(), r.save(r.Folder)) }

func (r *Run) reload() (err error) {
	if err = r.load(); err != nil {
		return err
	}
	if r.Stage("convert").State != Done {
		return fmt.Errorf("%w: %s has no converted disks", ErrRecord, r.Folder)
	}
	return os.MkdirAll(r.work(""), 0o755)
}

// UndoAll takes the changes back on the converted disks: content, owner, mode,
// attributes and times of every file that was touched are as in the source. The
// inverse is applied to overlays first and committed when it is whole, so that
// an undo that is interrupted can be run again.
func (r *Run) UndoAll(ctx context.Context) (err error) {
	if r.Undone {
		return fmt.Errorf("%w: it was undone already", ErrRecord)
	}
	if !r.halfUndone() {
		if err := r.undoInOverlays(ctx); err != nil {
			return err
		}
		if err := durable.Write(r.work(undoReady), nil); err != nil {
			return err
		}
	}
	for i, d := range r.Disks {
		if err := disk.Commit(ctx, r.undoOverlay(i), d.Path, d.Format); err != nil {
			return fmt.Errorf("disk %d is half undone; run undo again: %w", i, err)
		}
	}
	r.Undone, r.Outcome = true, nil
	if err := r.dropManifests(); err != nil {
		return err
	}
	if err := r.save(r.Folder); err != nil {
		return err
	}
	return os.RemoveAll(r.work(""))
}

// dropManifests removes what tells of disks that are no more as they were copied.
func (r *Run) dropManifests() error {
	var failed []error
	for i := range r.Disks {
		failed = append(failed, os.RemoveAll(r.target(i).Manifest()))
		r.Disks[i].Content = ""
	}
	return errors.Join(failed...)
}

// halfUndone tells whether an undo has begun to write to the disks, which are
// then whole only once it was run to its end.
func (r *Run) halfUndone() bool {
	_, err := os.Stat(r.work(undoReady))
	return err == nil && !r.Undone
}

func (r *Run) undoOverlay(i int) string { return r.work(fmt.Sprintf("undo%d.qcow2", i)) }

func (r *Run) undoInOverlays(ctx context.Context) error {
	storage, release, err := r.overTargets(ctx, r.undoOverlay)
	if err != nil {
		return err
	}
	asItIs := func(context.Context, guest.Guest) error { return nil }
	err = r.inGuest(ctx, storage, asItIs, func(_ context.Context, g guest.Guest) error {
		_, err := guest.Apply(g, r.Undo)
		return err
	})
	return errors.Join(err, release(ctx))
}

// overTargets puts new overlays over the converted disks.
func (r *Run) overTargets(ctx context.Context, overlay func(int) string) (*disk.Storage, func(context.Context) error, error) {
	var sources []*disk.Source
	var exports []disk.Export
	for i, d := range r.Disks {
		s, err := disk.OpenSource(ctx, d.Path, d.Format)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("disk %d: %w", i, err), closeAll(sources))
		}
		sources = append(sources, s)
		exports = append(exports, s.Export)
	}
	storage, err := r.overlays(ctx, exports, overlay)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(sources))
	}
	return storage, func(ctx context.Context) error {
		return errors.Join(storage.Close(ctx), closeAll(sources))
	}, nil
}

// overlays makes new overlays over exports of the machine's disks and serves
// them; those that an earlier attempt left are thrown away.
func (r *Run) overlays(ctx context.Context, exports []disk.Export, overlay func(int) string) (*disk.Storage, error) {
	var layers []disk.Layer
	for i, e := range exports {
		if err := os.RemoveAll(overlay(i)); err != nil {
			return nil, err
		}
		if err := disk.CreateOverlay(ctx, overlay(i), r.Machine.Disks[i].Size); err != nil {
			return nil, err
		}
		layers = append(layers, disk.Layer{Overlay: overlay(i), Backing: e})
	}
	return disk.OpenStorage(ctx, layers)
}

func closeAll(sources []*disk.Source) error {
	var failed []error
	for _, s := range sources {
		failed = append(failed, s.Close())
	}
	return errors.Join(failed...)
}

// inGuest opens the guest on a storage, lets unmounted work on it as it is, mounts
// it as it mounts itself, lets do work on that, and writes everything through.
func (r *Run) inGuest(ctx context.Context, s *disk.Storage, unmounted, do func(context.Context, guest.Guest) error) error {
	g, err := r.engine(ctx, r.Engine.Name, s, r.Accel, r.log)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrEngine, r.Engine.Name, err)
	}
	if err := unmounted(ctx, g); err != nil {
		return errors.Join(err, g.Close())
	}
	if err := r.remount(ctx, g, r.facts()); err != nil {
		return errors.Join(err, g.Close())
	}
	return errors.Join(do(ctx, g), g.Close())
}
