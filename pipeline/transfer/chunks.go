package transfer

import (
	"context"
	"fmt"
	"iter"
)

// piece is what a copy deals with at once: one chunk and the extents of it that
// may hold data, or a run of chunks that hold none.
type piece struct {
	first, count int64
	data         []Extent
	// touched are the parts of the chunk that are to be copied, if that is not all.
	touched []Range
}

// window is how much of a disk is asked for its extents at once: what one NBD
// request can name.
const window = 1 << 31

// gap is the least hole between data of one chunk that is worth two requests.
const gap = 64 << 10

// extents are all those of a range, in order. A reader that names others than
// those that follow is not believed.
func extents(ctx context.Context, r Reader, off, n int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for end := off + n; off < end; {
			list, err := r.Extents(ctx, off, min(window, end-off))
			if err == nil && len(list) == 0 {
				err = fmt.Errorf("no extents at %d", off)
			}
			if err != nil {
				yield(Extent{}, err)
				return
			}
			for _, e := range list {
				if e.Offset != off || e.Length <= 0 || e.Length > end-off {
					yield(Extent{}, fmt.Errorf("an extent of %d bytes at %d is not one of those from %d on", e.Length, e.Offset, off))
					return
				}
				if !yield(e, nil) {
					return
				}
				off += e.Length
			}
		}
	}
}

// pieces cuts a range of a disk, which begins and ends with chunks, into pieces.
func pieces(ctx context.Context, r Reader, h header, first, count int64) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		begin := first * h.Chunk
		end := min(h.Size, begin+count*h.Chunk)
		c := cutter{h: h, next: first}
		for e, err := range extents(ctx, r, begin, end-begin) {
			if err != nil {
				yield(piece{}, err)
				return
			}
			for p := range c.cut(e) {
				if !yield(p, nil) {
					return
				}
			}
		}
		for p := range c.before(first + count) {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// cutter makes pieces of extents that come in order.
type cutter struct {
	h    header
	next int64    // the first chunk that is in no piece yet
	data []Extent // of the chunk at the end of what was seen
	at   int64    // that chunk, if data is not empty
}

// cut takes one extent and yields the pieces that are known by it.
func (c *cutter) cut(e Extent) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		if e.Zero {
			return // is in the pieces that come before the next data
		}
		for e.Length > 0 {
			chunk := e.Offset / c.h.Chunk
			for p := range c.before(chunk) {
				if !yield(p) {
					return
				}
			}
			n := min(e.Length, (chunk+1)*c.h.Chunk-e.Offset)
			c.at, c.data = chunk, join(c.data, Extent{Offset: e.Offset, Length: n})
			e.Offset, e.Length = e.Offset+n, e.Length-n
		}
	}
}

// before yields what is known of the chunks before one.
func (c *cutter) before(chunk int64) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		if len(c.data) > 0 && c.at < chunk {
			if c.at > c.next && !yield(piece{first: c.next, count: c.at - c.next}) {
				return
			}
			p := piece{first: c.at, count: 1, data: c.data}
			c.next, c.data = c.at+1, nil
			if !yield(p) {
				return
			}
		}
		if len(c.data) == 0 && c.next < chunk {
			p := piece{first: c.next, count: chunk - c.next}
			c.next = chunk
			yield(p)
		}
	}
}

// join adds an extent behind others, and closes a gap that is small.
func join(list []Extent, e Extent) []Extent {
	if n := len(list); n > 0 && e.Offset-(list[n-1].Offset+list[n-1].Length) < gap {
		list[n-1].Length = e.Offset + e.Length - list[n-1].Offset
		return list
	}
	return append(list, e)
}
