package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// File is a file that bytes of a disk are in, wherever it lies. Any number of
// goroutines may read it.
type File interface {
	// Name is the file's, for people.
	Name() string
	// Size is how many bytes it had when it was opened.
	Size() int64
	// ReadAt fills p with what lies at a place, as io.ReaderAt's does.
	ReadAt(ctx context.Context, p []byte, at int64) (int, error)
	// Close lets go of it. Nothing may be read any more.
	Close() error
}

// holed is a file that can tell of its holes, as Hole does.
type holed interface {
	Hole(at, n int64) (length int64, hole bool, err error)
}

// local is a file of this machine.
type local struct {
	*os.File
	size int64
}

// openLocal opens a file or a device to read it.
func openLocal(path string) (*local, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &local{f, size}, nil
}

func (l *local) Size() int64 { return l.size }

func (l *local) ReadAt(_ context.Context, p []byte, at int64) (int, error) {
	return l.File.ReadAt(p, at)
}

func (l *local) Hole(at, n int64) (int64, bool, error) { return Hole(l.File, at, n) }

// readsAt is a file for what knows no context.
type readsAt func(p []byte, at int64) (int, error)

func (r readsAt) ReadAt(p []byte, at int64) (int, error) { return r(p, at) }

// readerAt reads a file until a context ends.
func readerAt(ctx context.Context, f File) io.ReaderAt {
	return readsAt(func(p []byte, at int64) (int, error) { return f.ReadAt(ctx, p, at) })
}

// readWhole reads what must be there.
func readWhole(ctx context.Context, f File, p []byte, at int64) error {
	n, err := f.ReadAt(ctx, p, at)
	if n == len(p) { // and it may be the file's end
		return nil
	}
	if err == io.EOF {
		return fmt.Errorf("%s: %w: it has no %d bytes at %d", f.Name(), ErrTruncated, len(p), at)
	}
	return err
}
