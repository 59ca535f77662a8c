package transfer

import (
	"context"
	"runtime"

	"hyper2kvm/pipeline/disk"
)

// Open opens a disk to read it, until Close.
func Open(ctx context.Context, at disk.Export) (Reader, error) {
	return openDisk(ctx, at, Parallel{}.patience())
}

// openDisk opens a disk to read it: from its files where that can be done, else by
// way of its server.
func openDisk(ctx context.Context, at disk.Export, may patience) (Reader, error) {
	if at.Content != nil {
		return inFiles{at.Content}, nil
	}
	if at.Remote != nil {
		return lent{at.Remote}, nil
	}
	if at.Chain == nil {
		return openExport(ctx, at, may)
	}
	d, err := at.Chain.Read()
	if err != nil {
		return nil, err
	}
	return inFiles{d}, nil
}

// lent is a remote disk, which stays open for others.
type lent struct{ disk.Remote }

func (lent) Close() error { return nil }

// inFiles is a disk that is read from its files.
type inFiles struct{ *disk.Content }

// atOnce is how many chunks of a disk are worth having under way. One that this
// program reads itself waits for processors, whose caches hold few; a server is kept
// busy.
func atOnce(from Reader, b *budget) int64 {
	if l, ok := from.(*layered); ok {
		from = l.beneath.Reader
	}
	if _, ok := from.(inFiles); ok {
		return int64(2 * runtime.GOMAXPROCS(0))
	}
	return b.chunks
}

func (c inFiles) Read(_ context.Context, p []byte, off int64) error { return c.Content.Read(p, off) }

func (c inFiles) Extents(_ context.Context, off, n int64) ([]Extent, error) {
	return c.Content.Extents(off, n)
}
