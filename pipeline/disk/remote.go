package disk

import "context"

// Remote is a disk that this program reads over a network or from another host's
// storage. Any number of goroutines may.
type Remote interface {
	// Size is the disk's, in bytes.
	Size() int64
	// Read fills p with what lies at off.
	Read(ctx context.Context, p []byte, off int64) error
	// Extents are what of n bytes from off on may be data, in order and without
	// gaps: at least one, and not always all.
	Extents(ctx context.Context, off, n int64) ([]Allocation, error)
	// Close lets go of the disk. Nothing may be read any more.
	Close() error
}
