package disk

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
)

// What is read of a file that lies elsewhere at once, in bytes: pieces with no more
// than a gap between them are read together, up to a size; and how many of them may be
// under way for one read.
const (
	mostGap     = 16 << 10
	mostAtOnce  = 4 << 20
	mostGathers = 4
)

// gathered is what lies in a file between begin and end, for a read of a disk.
type gathered struct {
	file       File
	begin, end int64
	into       []piece
}

// piece is a run of the read and the room for it.
type piece struct {
	run
	p []byte
}

// Read fills p with what lies at off. Scattered grains are asked for together, and
// what is large in pieces at once: each request waits for a network.
func (e *elsewhere) Read(ctx context.Context, p []byte, off int64) error {
	if err := e.holds(off, int64(len(p))); err != nil {
		return err
	}
	list, err := e.pieces(ctx, p, off)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(mostGathers)
	for _, r := range list {
		g.Go(func() error { return e.gather(ctx, r) })
	}
	return g.Wait()
}

// pieces are what is to be read for a range of the disk, in the order of the files'.
// What is zeroes is filled in.
func (e *elsewhere) pieces(ctx context.Context, p []byte, off int64) ([]gathered, error) {
	byFile := map[File][]piece{}
	var files []File
	for r, err := range e.runs(ctx, 0, off, int64(len(p))) {
		if err != nil {
			return nil, err
		}
		if r.kind == zeroed {
			clear(p[r.off-off:][:r.length])
			continue
		}
		if byFile[r.file] == nil {
			files = append(files, r.file)
		}
		byFile[r.file] = append(byFile[r.file], split(piece{r, p[r.off-off:][:r.length]})...)
	}
	var list []gathered
	for _, f := range files {
		list = append(list, joined(byFile[f])...)
	}
	return list, nil
}

// split is a piece as several that are not too large; a compressed one is none.
func split(p piece) (list []piece) {
	for p.kind == plain && p.length > mostAtOnce {
		first := p
		first.length, first.p = mostAtOnce, p.p[:mostAtOnce]
		list = append(list, first)
		p.off, p.at, p.length, p.p = p.off+mostAtOnce, p.at+mostAtOnce, p.length-mostAtOnce, p.p[mostAtOnce:]
	}
	return append(list, p)
}

// joined are the pieces of one file, those that lie near one another together.
func joined(pieces []piece) (list []gathered) {
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.at, b.at) })
	for _, p := range pieces {
		if n := len(list); n > 0 && list[n-1].takes(p) {
			g := &list[n-1]
			g.end, g.into = max(g.end, p.at+p.length), append(g.into, p)
			continue
		}
		list = append(list, gathered{p.file, p.at, p.at + p.length, []piece{p}})
	}
	return list
}

// takes tells whether a piece behind may be read together with the others.
func (g gathered) takes(p piece) bool {
	return p.kind == plain && g.into[0].kind == plain && p.at-g.end <= mostGap && max(g.end, p.at+p.length)-g.begin <= mostAtOnce
}

// gather reads pieces, by way of memory if there are several.
func (e *elsewhere) gather(ctx context.Context, g gathered) error {
	if len(g.into) == 1 {
		return e.read(ctx, g.into[0].run, g.into[0].p)
	}
	all := make([]byte, g.end-g.begin)
	if err := readWhole(ctx, g.file, all, g.begin); err != nil {
		return err
	}
	for _, p := range g.into {
		copy(p.p, all[p.at-g.begin:])
	}
	return nil
}
