package transport

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"hyper2kvm/pipeline/disk"
)

// known tells what of n bytes from off on was ever written, as Disk.Allocated.
type known func(ctx context.Context, off, n int64) ([]disk.Allocation, error)

// skipping is a disk of which some is known never to have been written, beyond what
// the transport itself can tell; the same disk if nothing is known. When the server
// does not tell it any more, all may be data.
func skipping(r disk.Remote, allocated known) disk.Remote {
	if allocated == nil {
		return r
	}
	return &allocations{Remote: r, known: allocated}
}

type allocations struct {
	disk.Remote
	known  known
	failed atomic.Bool
}

// Extents implements disk.Remote.
func (a *allocations) Extents(ctx context.Context, off, n int64) ([]disk.Allocation, error) {
	if err := within(a.Size(), off, n); err != nil {
		return nil, err
	}
	if a.failed.Load() {
		return a.Remote.Extents(ctx, off, n)
	}
	list, err := a.known(ctx, off, n)
	if err == nil {
		err = contiguous(list, off, n)
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, ErrGone):
		return nil, err
	case err != nil:
		a.failed.Store(true)
		return a.Remote.Extents(ctx, off, n)
	}
	return a.refine(ctx, list)
}

// refine asks the transport itself about what was written.
func (a *allocations) refine(ctx context.Context, list []disk.Allocation) (all []disk.Allocation, err error) {
	for _, l := range list {
		if l.Zero {
			all = append(all, l)
			continue
		}
		for end := l.Offset + l.Length; l.Offset < end; {
			found, err := a.Remote.Extents(ctx, l.Offset, end-l.Offset)
			if err == nil {
				err = contiguous(found, l.Offset, end-l.Offset)
			}
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
			last := found[len(found)-1]
			l.Offset = last.Offset + last.Length
		}
	}
	return all, nil
}

// within refuses a range that is not one of a disk of size bytes.
func within(size, off, n int64) error {
	if off < 0 || n < 1 || off > size-n {
		return fmt.Errorf("%d bytes at %d of a disk of %d", n, off, size)
	}
	return nil
}

// contiguous refuses extents that are not in order and without gaps from off on.
func contiguous(list []disk.Allocation, off, n int64) error {
	if len(list) == 0 {
		return errors.New("no extents were told")
	}
	end := off + n
	for _, a := range list {
		if a.Offset != off || a.Length <= 0 || a.Length > end-off {
			return fmt.Errorf("an extent of %d bytes at %d was told, where %d to %d was asked for", a.Length, a.Offset, off, end)
		}
		off += a.Length
	}
	return nil
}
