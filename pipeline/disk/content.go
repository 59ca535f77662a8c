package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
)

// Content is what a disk holds, read from its files by this program itself: several
// pieces at once and with nothing between, where QEMU reads a VMDK one piece after
// the other. Any number of goroutines may.
type Content struct {
	size   int64
	layers [][]stretch // of the disk, and then of each disk that it stands on
	files  []io.Closer
	kept   *kept // nil if nothing is
	once   bool  // nothing more is kept
}

// stretch is an extent of a layer. Places and sizes are in bytes.
type stretch struct {
	begin, end int64 // on the disk
	file       File  // nil for zeroes
	at         int64 // of a flat one: where it begins in the file
	sparse     *sparse
}

// Legible tells whether this program can read the disk itself.
func (c *Chain) Legible() bool { return c.Format == Raw || c.Format == VMDK }

// Read opens the files of a disk that is legible. Whether they are whole, Open
// finds out.
func (c *Chain) Read() (_ *Content, err error) {
	if err := manyFiles(c.Path, len(c.Files())); err != nil {
		return nil, err
	}
	d := &Content{size: c.Size}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if c.Format == Raw {
		f, err := d.open(c.Path)
		if err != nil {
			return nil, err
		}
		if f.Size() <= c.Size-sectorSize { // its last sector may be cut short
			return nil, fmt.Errorf("%s: %w: it has %d bytes of %d", c.Path, ErrTruncated, f.Size(), c.Size)
		}
		d.layers = [][]stretch{{{end: min(f.Size(), c.Size), file: f}}}
		return d, nil
	}
	for _, l := range c.links {
		layer, err := d.layer(l)
		if err != nil {
			return nil, err
		}
		d.layers = append(d.layers, layer)
	}
	return d, nil
}

func (d *Content) layer(l link) (layer []stretch, err error) {
	for _, p := range l.parts {
		var f File
		if p.path != "" {
			if f, err = d.open(p.path); err != nil {
				return nil, err
			}
		}
		layer = p.behind(layer, f)
	}
	return layer, nil
}

// behind adds an extent, and the file that holds it, to a layer.
func (p part) behind(layer []stretch, f File) []stretch {
	s := stretch{at: p.Offset * sectorSize, sparse: p.sparse, file: f}
	if n := len(layer); n > 0 {
		s.begin = layer[n-1].end
	}
	s.end = s.begin + p.Sectors*sectorSize
	return append(layer, s)
}

func (d *Content) open(path string) (File, error) {
	f, err := openLocal(path)
	if err != nil {
		return nil, err
	}
	d.files = append(d.files, f)
	return f, nil
}

// Close closes the files. Nothing may be read any more.
func (d *Content) Close() error {
	var failed []error
	for _, f := range d.files {
		failed = append(failed, f.Close())
	}
	return errors.Join(failed...)
}

// Size is the disk's in bytes.
func (d *Content) Size() int64 { return d.size }

// run is a piece of a disk whose bytes are all held in one way.
type run struct {
	off, length int64 // on the disk, bytes
	kind        holding
	file        File
	at          int64 // where in the file they are, or the grain that they are in
	skip, grain int64 // of a compressed grain: the bytes before them, and all of it
	flat        bool  // the file may have holes
}

// holding is how bytes of a disk are held.
type holding int

const (
	absent   holding = iota // by the disk beneath, if there is one
	zeroed                  // as nothing
	plain                   // as they are
	deflated                // in a compressed grain
)

// runs are those of a range of a layer, where nothing is held those of the layers
// beneath.
func (d *Content) runs(ctx context.Context, layer int, off, n int64) iter.Seq2[run, error] {
	return func(yield func(run, error) bool) {
		if layer == len(d.layers) {
			yield(run{off: off, length: n, kind: zeroed}, nil)
			return
		}
		for r, err := range runsOf(ctx, d.layers[layer], off, n) {
			if err == nil && r.kind == absent {
				for below, err := range d.runs(ctx, layer+1, r.off, r.length) {
					if !yield(below, err) || err != nil {
						return
					}
				}
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// runsOf are the runs of a range of one layer's extents.
func runsOf(ctx context.Context, layer []stretch, off, n int64) iter.Seq2[run, error] {
	return func(yield func(run, error) bool) {
		end := off + n
		first := sort.Search(len(layer), func(i int) bool { return layer[i].end > off })
		for _, s := range layer[first:] {
			if off >= end {
				return
			}
			length := min(end, s.end) - off
			for r, err := range s.runs(ctx, off, length) {
				if !yield(r, err) || err != nil {
					return
				}
			}
			off += length
		}
		if off < end {
			yield(run{off: off, length: end - off}, nil)
		}
	}
}

// runs are those of a range of one extent.
func (s stretch) runs(ctx context.Context, off, n int64) iter.Seq2[run, error] {
	if s.sparse != nil {
		return s.sparse.runs(ctx, s.file, s.begin, off, n)
	}
	return func(yield func(run, error) bool) {
		r := run{off: off, length: n, kind: zeroed}
		if s.file != nil {
			r.kind, r.file, r.at, r.flat = plain, s.file, s.at+off-s.begin, true
		}
		yield(r, nil)
	}
}

// Read fills p with what lies at off.
func (d *Content) Read(p []byte, off int64) error {
	if err := d.holds(off, int64(len(p))); err != nil {
		return err
	}
	ctx := context.Background() // reads of local files are not waited for
	for r, err := range d.runs(ctx, 0, off, int64(len(p))) {
		if err == nil {
			err = d.read(ctx, r, p[r.off-off:][:r.length])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holds refuses a range that is not one of the disk.
func (d *Content) holds(off, n int64) error {
	if off < 0 || n < 0 || off > d.size-n {
		return fmt.Errorf("%d bytes at %d of a disk of %d", n, off, d.size)
	}
	return nil
}

func (d *Content) read(ctx context.Context, r run, p []byte) error {
	switch r.kind {
	case plain:
		return readWhole(ctx, r.file, p, r.at)
	case deflated:
		return d.inflate(ctx, r, p)
	}
	clear(p)
	return nil
}

// Allocation is a run of a disk's bytes that take no room and read as zeroes, or
// that may be data.
type Allocation struct {
	Offset, Length int64 // bytes
	Zero           bool
}

// mostAllocations is how many are told of at a time.
const mostAllocations = 1 << 12

// Extents are what of n bytes from off on may be data, in order and without gaps:
// at least one, and not always all.
func (d *Content) Extents(off, n int64) (list []Allocation, err error) {
	return d.extents(context.Background(), off, n)
}

func (d *Content) extents(ctx context.Context, off, n int64) (list []Allocation, err error) {
	for r, err := range d.runs(ctx, 0, off, min(n, d.size-off)) {
		if err != nil {
			return nil, err
		}
		for r.length > 0 {
			a, err := r.allocation()
			if err != nil {
				return nil, err
			}
			if list = merge(list, a); len(list) > mostAllocations {
				return list[:mostAllocations], nil
			}
			r.off, r.at, r.length = r.off+a.Length, r.at+a.Length, r.length-a.Length
		}
	}
	return list, nil
}

// allocation is the first of a run.
func (r run) allocation() (Allocation, error) {
	a := Allocation{r.off, r.length, r.kind == zeroed}
	f, tells := r.file.(holed)
	if r.kind != plain || !r.flat || !tells {
		return a, nil
	}
	var err error
	a.Length, a.Zero, err = f.Hole(r.at, r.length)
	return a, err
}

// merge puts an allocation behind others.
func merge(list []Allocation, a Allocation) []Allocation {
	if n := len(list); n > 0 && list[n-1].Zero == a.Zero {
		list[n-1].Length += a.Length
		return list
	}
	return append(list, a)
}
