package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/vhost"
)

// shared is one disk that several servers serve, each of which reads a part of it.
type shared struct{ servers []*export }

// stripe is how much one of them reads before the next has its turn.
const stripe = leastChunk

func openShared(ctx context.Context, at []disk.Export, again time.Duration) (Reader, error) {
	s := &shared{}
	for _, one := range at {
		e, err := openExport(ctx, one, again)
		if err == nil && len(s.servers) > 0 && e.size != s.Size() {
			err = errors.Join(fmt.Errorf("it has %d bytes for one of its servers, and %d for another", s.Size(), e.size), e.Close())
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.servers = append(s.servers, e)
	}
	return s, nil
}

func (s *shared) Size() int64 { return s.servers[0].size }

// Read implements Reader.
func (s *shared) Read(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		n := min(int64(len(p)), stripe-off%stripe)
		if err := s.at(off).Read(ctx, p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// at is the server whose turn a byte is.
func (s *shared) at(off int64) *export { return s.servers[off/stripe%int64(len(s.servers))] }

// Extents implements Reader: they cost nothing worth sharing.
func (s *shared) Extents(ctx context.Context, off, n int64) ([]Extent, error) {
	return s.servers[0].Extents(ctx, off, n)
}

func (s *shared) join(ctx context.Context, m *vhost.Memory) {
	for _, e := range s.servers {
		e.join(ctx, m)
	}
}

func (s *shared) Close() error {
	var failed error
	for _, e := range s.servers {
		failed = errors.Join(failed, e.Close())
	}
	return failed
}
