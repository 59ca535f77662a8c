package transfer

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
)

// Extent is a run of a disk's bytes that are all zeroes, or may be data.
type Extent = disk.Allocation

// Reader is a disk that is read; any number of goroutines may.
type Reader interface {
	// Size is the disk's, in bytes.
	Size() int64
	// Read fills p with what lies at off.
	Read(ctx context.Context, p []byte, off int64) error
	// Extents are those from off on, in order and without gaps: at least one,
	// and at most up to off+n.
	Extents(ctx context.Context, off, n int64) ([]Extent, error)
	Close() error
}

// Writer is a disk that is written; any number of goroutines may, each its own
// bytes.
type Writer interface {
	Reader
	Write(ctx context.Context, p []byte, off int64) error
	// Zero makes n bytes read as zeroes, without room on the storage where that
	// can be had.
	Zero(ctx context.Context, off, n int64) error
	// Flush returns when what was written before outlives this program and its
	// servers, if not the machine: it is on its way to stable storage, and Sync
	// waits for the rest of that way.
	Flush(ctx context.Context) error
	// Sync brings what was written before to stable storage.
	Sync(ctx context.Context) error
}

// file is a raw file or a block device.
type file struct {
	*os.File
	size   int64
	device bool
	solid  bool // its room was taken beforehand, and is kept
	// writing is held by who writes: the kernel lets one at a time write to a file,
	// and the others would spin there.
	writing sync.Mutex
}

// openFile opens one; flags are os.O_RDONLY or os.O_RDWR.
func openFile(path string, flags int) (*file, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{File: f, size: size, device: info.Mode()&os.ModeDevice != 0}, nil
}

func (f *file) Size() int64 { return f.size }

func (f *file) Read(_ context.Context, p []byte, off int64) error {
	_, err := f.ReadAt(p, off)
	return err
}

func (f *file) Write(_ context.Context, p []byte, off int64) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	_, err := f.WriteAt(p, off)
	return err
}

// Extents asks where the file has holes.
func (f *file) Extents(_ context.Context, off, n int64) ([]Extent, error) {
	n = min(n, f.size-off)
	if f.device {
		return []Extent{{Offset: off, Length: n}}, nil
	}
	length, hole, err := disk.Hole(f.File, off, n)
	return []Extent{{Offset: off, Length: length, Zero: hole}}, err
}

// Zero punches a hole, or lets the device's driver do what is like it; where
// neither is known, zeroes are written.
func (f *file) Zero(ctx context.Context, off, n int64) error {
	mode := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
	if f.solid {
		mode = unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE
	}
	err := unix.Fallocate(int(f.Fd()), mode, off, n)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return writeZeroes(ctx, f, off, n)
}

func writeZeroes(ctx context.Context, w Writer, off, n int64) error {
	for n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece := min(n, zeroPiece)
		if err := w.Write(ctx, zeroes[:piece], off); err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// Flush has little to do: what is written is the kernel's already.
func (f *file) Flush(context.Context) error {
	disk.WriteOut(f.File)
	return nil
}

// Sync implements Writer.
func (f *file) Sync(context.Context) error { return unix.Fdatasync(int(f.Fd())) }
