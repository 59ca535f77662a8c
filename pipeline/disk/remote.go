package disk

import (
	"context"
	"errors"
	"path/filepath"

	"hyper2kvm/pipeline/disk/nbd"
)

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

// FromRemote is the source that a remote disk is. Its Close closes the disk.
func FromRemote(r Remote) *Source { return &Source{Export: Export{Remote: r}, Size: r.Size()} }

// asked is a remote disk as a server reads it: until the context ends.
type asked struct {
	Remote
	until context.Context
}

// Read implements nbd.Disk.
func (a asked) Read(p []byte, off int64) error { return a.Remote.Read(a.until, p, off) }

// offerRemote serves a remote disk to the daemon while the storage is open, and keeps
// what it reads beside the overlay.
func (s *Storage) offerRemote(i int, l Layer) (Export, error) {
	e := Export{Socket: filepath.Join(s.dir, node("source", i)), Name: "disk"}
	near := Keep(l.Backing.Remote, filepath.Dir(l.Overlay))
	ctx, stop := context.WithCancelCause(context.Background())
	server, err := nbd.Offer(e.Socket, e.Name, asked{near, ctx})
	if err != nil {
		stop(err)
		return e, errors.Join(err, near.Close())
	}
	s.near[i] = near
	s.offers = append(s.offers, func() error {
		stop(errors.New("the storage is closed"))
		return errors.Join(server.Close(), near.Close())
	})
	return e, nil
}
