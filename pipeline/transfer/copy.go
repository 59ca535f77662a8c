package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"syscall"

	"golang.org/x/sync/semaphore"
)

// copying is one disk on its way.
type copying struct {
	from     Reader
	to       Writer
	manifest *manifest
	journal  *journal
	budget   *budget
	done     bitmap // what the journal told of when the copy began; not changed
	blank    bool   // all of the target that was not written reads as zeroes

	hands *semaphore.Weighted // for chunks at once
	room  *semaphore.Weighted // for what no journal tells of
	kick  chan struct{}       // a checkpoint is due
	mu    sync.Mutex
	fresh []run // what is in the target and in no journal
	bytes int64 // of data in fresh

	meter
}

// run is a run of chunks, and how many bytes of them took room.
type run struct{ first, count, bytes int64 }

func newCopying(from Reader, to Writer, s *saved, b *budget) *copying {
	return &copying{from: from, to: to, manifest: s.manifest, journal: s.journal, budget: b, done: s.done, blank: s.blank,
		hands: semaphore.NewWeighted(atOnce(from, b)), room: semaphore.NewWeighted(max(b.unsaved, s.Chunk)), kick: make(chan struct{}, 1)}
}

// run copies what is to do, and saves how far it came, also when it ends early.
func (c *copying) run(ctx context.Context, todo iter.Seq2[piece, error]) error {
	inner, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	ended := make(chan struct{})
	var saver sync.WaitGroup
	for _, task := range []func(context.Context, <-chan struct{}) error{c.save, c.syncNowAndThen} {
		saver.Go(func() {
			if err := task(inner, ended); err != nil {
				fail(err)
			}
		})
	}
	var workers sync.WaitGroup
	if err := c.start(inner, todo, &workers, fail); err != nil {
		fail(err)
	}
	workers.Wait()
	close(ended)
	saver.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
	defer cancel()
	return errors.Join(context.Cause(inner), c.checkpoint(last))
}

// start hands the pieces to workers, as memory and journal allow.
func (c *copying) start(ctx context.Context, todo iter.Seq2[piece, error], workers *sync.WaitGroup, fail context.CancelCauseFunc) error {
	for p, err := range todo {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSource, err)
		}
		if c.done != nil && c.done.hasAll(p.first, p.count) {
			c.virtual.Add(c.manifest.lengthOf(p))
			continue
		}
		if len(p.data) == 0 && p.touched == nil {
			if err := c.hole(ctx, p); err != nil {
				return err
			}
			continue
		}
		if err := c.room.Acquire(ctx, c.manifest.Chunk); err != nil {
			return context.Cause(ctx)
		}
		if err := c.hands.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		buffer, err := c.budget.take(ctx)
		if err != nil {
			return err
		}
		workers.Go(func() {
			defer c.hands.Release(1)
			if err := c.chunk(ctx, p, buffer[:c.manifest.length(p.first)]); err != nil {
				fail(err) // and the buffer is nobody's: a server that hangs may still write to it
				return
			}
			c.budget.give(buffer)
		})
	}
	return nil
}

// hole deals with chunks of which nothing has to be read.
func (c *copying) hole(ctx context.Context, p piece) error {
	if !c.blank {
		if err := c.zero(ctx, p.first*c.manifest.Chunk, c.manifest.lengthOf(p)); err != nil {
			return unwritten(err)
		}
		for i := range p.count {
			if err := c.manifest.set(p.first+i, Digest{}); err != nil {
				return unwritten(err)
			}
		}
	}
	c.finished(run{p.first, p.count, 0}, c.manifest.lengthOf(p))
	return context.Cause(ctx)
}

// zero makes bytes of the target read as zeroes. Where they do already nothing is
// written: a format takes room for that, for tables at least.
func (c *copying) zero(ctx context.Context, off, n int64) error {
	for e, err := range extents(ctx, c.to, off, n) {
		if err != nil {
			return err
		}
		if e.Zero {
			continue
		}
		if err := c.to.Zero(ctx, e.Offset, e.Length); err != nil {
			return err
		}
	}
	return nil
}

// lengthOf is how many bytes a piece covers.
func (h header) lengthOf(p piece) int64 {
	return min(h.Size, (p.first+p.count)*h.Chunk) - p.first*h.Chunk
}

// chunk copies one chunk by way of a buffer of its length.
func (c *copying) chunk(ctx context.Context, p piece, buffer []byte) error {
	if p.touched != nil {
		if err := c.to.Read(ctx, buffer, p.first*c.manifest.Chunk); err != nil {
			return unwritten(err)
		}
	}
	if err := c.read(ctx, p, buffer); err != nil {
		return err
	}
	if err := c.write(ctx, p, buffer); err != nil {
		return unwritten(err)
	}
	if err := c.manifest.set(p.first, digestOf(buffer)); err != nil {
		return unwritten(err)
	}
	c.finished(run{p.first, 1, c.manifest.Chunk}, int64(len(buffer)))
	return nil
}

// read puts what the source has into a buffer: all of the chunk, or what was
// touched.
func (c *copying) read(ctx context.Context, p piece, buffer []byte) error {
	begin := p.first * c.manifest.Chunk
	if p.touched == nil && p.data[0].Length < int64(len(buffer)) {
		clear(buffer)
	}
	for _, r := range p.touched {
		clear(buffer[r.Offset-begin:][:r.Length])
	}
	for _, e := range p.data {
		if err := c.budget.limit.wait(ctx, e.Length); err != nil {
			return err
		}
		at := e.Offset - begin
		if err := c.from.Read(ctx, buffer[at:at+e.Length], e.Offset); err != nil {
			return fmt.Errorf("%w: %d bytes at %d: %w", ErrSource, e.Length, e.Offset, err)
		}
		c.wire.Add(e.Length)
	}
	return nil
}

// write writes a chunk, or what of it was touched.
func (c *copying) write(ctx context.Context, p piece, buffer []byte) error {
	begin := p.first * c.manifest.Chunk
	if p.touched == nil {
		return c.writeAt(ctx, buffer, begin)
	}
	for _, r := range p.touched {
		if err := c.writeAt(ctx, buffer[r.Offset-begin:][:r.Length], r.Offset); err != nil {
			return err
		}
	}
	return nil
}

// writeAt writes what is not zero, in as few requests as can be.
func (c *copying) writeAt(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		zero, n := sameKind(p)
		var err error
		switch {
		case !zero:
			err = c.to.Write(ctx, p[:n], off)
		case !c.blank:
			err = c.zero(ctx, off, int64(n))
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// sameKind tells whether p begins with a piece of zeroes, and how long what
// begins it goes on.
func sameKind(p []byte) (zero bool, n int) {
	zero = isZero(p[:min(len(p), zeroPiece)])
	for n = min(len(p), zeroPiece); n < len(p); {
		next := min(len(p)-n, zeroPiece)
		if isZero(p[n:n+next]) != zero {
			break
		}
		n += next
	}
	return zero, n
}

// unwritten is an error of the target's, with the commonest cause in plain words.
func unwritten(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: its storage is full: make room or choose another folder: %w", ErrTarget, err)
	}
	return fmt.Errorf("%w: %w", ErrTarget, err)
}
