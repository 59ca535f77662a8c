package transfer

import "context"

// padded is a disk that is read as a larger one, with zeroes behind its end: as
// QEMU reads what an overlay that is larger than its disk does not hold.
type padded struct {
	Reader
	size int64
}

func (p padded) Size() int64 { return p.size }

// Read implements Reader.
func (p padded) Read(ctx context.Context, b []byte, off int64) error {
	n := min(max(p.Reader.Size()-off, 0), int64(len(b)))
	clear(b[n:])
	if n == 0 {
		return nil
	}
	return p.Reader.Read(ctx, b[:n], off)
}

// Extents implements Reader.
func (p padded) Extents(ctx context.Context, off, n int64) ([]Extent, error) {
	end := p.Reader.Size()
	if off >= end {
		return []Extent{{Offset: off, Length: n, Zero: true}}, nil
	}
	return p.Reader.Extents(ctx, off, min(n, end-off))
}
