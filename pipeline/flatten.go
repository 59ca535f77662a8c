package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"

	"hyper2kvm/pipeline/disk"
)

// flatten makes one empty overlay for every disk. From here on each disk is
// one export that can be written, whatever the source was made of. One that is to
// grow has its new size already: zeroes are read behind the source's end.
func (r *Run) flatten(ctx context.Context) error {
	for i, s := range r.sources {
		if err := r.mayEnlarge(ctx, i, s); err != nil {
			return err
		}
		if err := disk.CreateOverlay(ctx, r.overlay(i), r.enlarge(i, s.Size)); err != nil {
			return err
		}
	}
	return r.openOverlays(ctx)
}

func (r *Run) overlay(i int) string { return r.work(fmt.Sprintf("overlay%d.qcow2", i)) }

// openOverlays starts the one server of the migration's overlays.
func (r *Run) openOverlays(ctx context.Context) (err error) {
	var layers []disk.Layer
	for i, s := range r.sources {
		layers = append(layers, disk.Layer{Overlay: r.overlay(i), Backing: s.Export})
	}
	r.storage, err = disk.OpenStorage(ctx, layers)
	return err
}

func (r *Run) dropOverlays(context.Context) error {
	var failed []error
	for i := range r.sources {
		failed = append(failed, os.RemoveAll(r.overlay(i)))
	}
	return errors.Join(failed...)
}

// renewOverlays throws away what an interrupted stage wrote: changes half made by
// FIX, a journal half replayed by INSPECT. The stage starts over from the source.
func (r *Run) renewOverlays(ctx context.Context) error {
	if err := r.closeGuest(); err != nil {
		return err
	}
	if err := r.storage.Close(ctx); err != nil {
		r.log.Warn("the interrupted overlay is damaged and thrown away", "migration", r.Name, "err", err)
	}
	if err := r.dropOverlays(ctx); err != nil {
		return err
	}
	return r.flatten(ctx)
}
