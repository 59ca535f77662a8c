package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"
)

// Delta is what changed of a source since its disk was copied, or since the last
// delta.
type Delta struct {
	Job             // From is the source as it is now, To the target that was copied; the ID is the delta's own
	Changed []Range // in any order; parts of it may be named twice
}

// Update copies what changed into targets that are whole, side by side, and keeps
// their manifests true. While it is at work and after it was interrupted, a target
// is neither what it was nor what it is to be, and its manifest says so; called
// with the same deltas again, it goes on where it was.
func (p Parallel) Update(ctx context.Context, deltas []Delta, report func(Progress)) ([]Result, error) {
	told := serial(report)
	var jobs []Job
	for _, d := range deltas {
		jobs = append(jobs, d.Job)
	}
	return sideBySide(ctx, jobs, func(ctx context.Context, i int, b *budget) (Result, error) {
		return p.update(ctx, deltas[i], b, func(at Progress) { at.Disk = i; told(at) })
	}, p.Limits)
}

func (p Parallel) update(ctx context.Context, d Delta, b *budget, report func(Progress)) (_ Result, err error) {
	start := time.Now()
	changed, err := normal(d.Changed, d.To.Size)
	if err != nil {
		return Result{}, err
	}
	from, err := p.open(ctx, d.Job)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	s, err := d.begin()
	if err != nil {
		return Result{}, err
	}
	todo := []iter.Seq2[piece, error]{touched(ctx, from, s.header, changed)}
	wire, err := d.fill(ctx, from, s, filling{d.To.Path, todo, b, report, p.flushes()})
	if err != nil {
		return Result{}, err
	}
	return result(d.Job, wire, start)
}

// normal is the ranges in their order, none beside or over another.
func normal(ranges []Range, size int64) ([]Range, error) {
	list := slices.Clone(ranges)
	slices.SortFunc(list, func(a, b Range) int { return int(min(1, max(-1, a.Offset-b.Offset))) })
	var joined []Range
	for _, r := range list {
		if r.Offset < 0 || r.Length < 0 || r.Offset > size-r.Length {
			return nil, fmt.Errorf("%w: %d bytes at %d are said to have changed, of a disk of %d", ErrSource, r.Length, r.Offset, size)
		}
		if n := len(joined); n > 0 && joined[n-1].Offset+joined[n-1].Length >= r.Offset {
			end := max(joined[n-1].Offset+joined[n-1].Length, r.Offset+r.Length)
			joined[n-1].Length = end - joined[n-1].Offset
		} else if r.Length > 0 {
			joined = append(joined, r)
		}
	}
	return joined, nil
}

// begin has the manifest say that the disk is not whole, or goes on.
func (d Delta) begin() (*saved, error) {
	m, err := openManifest(d.To.Manifest(), os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be updated, since it was not copied whole: %w", d.To.Path, err)
	}
	s, err := d.opened(m)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return s, nil
}

func (d Delta) opened(m *manifest) (*saved, error) {
	if m.Size != d.To.Size || m.Changed != 0 {
		return nil, fmt.Errorf("%w: it is of a disk of %d bytes of which %d pieces were changed; what is updated has %d and is its source's replica", ErrManifest, m.Size, m.Changed, d.To.Size)
	}
	h, path := newHeader(d.ID, d.To.Size), d.To.journal()
	switch j, err := openJournal(path, h); {
	case err == nil:
		return d.goOn(m, j)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrManifest):
		return nil, err
	}
	if err := m.sealed(); err != nil {
		return nil, fmt.Errorf("%s was left half updated by another run, which must be run to its end first: %w", d.To.Path, err)
	}
	j, err := createJournal(path, h)
	if err != nil {
		return nil, err
	}
	m.Content = "" // seal says it again
	if err := errors.Join(j.sync(), m.writeHeader(), m.f.Sync()); err != nil {
		return nil, errors.Join(err, j.close())
	}
	return &saved{manifest: m, journal: j}, nil
}

// goOn takes up an update that was interrupted.
func (d Delta) goOn(m *manifest, j *journal) (*saved, error) {
	done, err := j.replay(m)
	if err == nil {
		err = j.f.Truncate(j.end)
	}
	if err != nil {
		return nil, errors.Join(err, j.close())
	}
	m.Content = ""
	return &saved{manifest: m, journal: j, done: done}, nil
}

// touched are the pieces of chunks in which something changed.
func touched(ctx context.Context, r Reader, h header, changed []Range) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		var p piece
		for c := range cutRanges(h, changed) {
			i := c.Offset / h.Chunk
			if p.touched != nil && p.first != i {
				if !yield(p, nil) {
					return
				}
				p = piece{}
			}
			p.first, p.count, p.touched = i, 1, append(p.touched, c)
			for e, err := range extents(ctx, r, c.Offset, c.Length) {
				if err != nil {
					yield(piece{}, err)
					return
				}
				if !e.Zero {
					p.data = append(p.data, e)
				}
			}
		}
		if p.touched != nil {
			yield(p, nil)
		}
	}
}

// cutRanges cuts ranges where chunks begin.
func cutRanges(h header, ranges []Range) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for _, r := range ranges {
			for r.Length > 0 {
				n := min(r.Length, (r.Offset/h.Chunk+1)*h.Chunk-r.Offset)
				if !yield(Range{r.Offset, n}) {
					return
				}
				r.Offset, r.Length = r.Offset+n, r.Length-n
			}
		}
	}
}
