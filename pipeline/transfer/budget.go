package transfer

import (
	"context"
	"slices"

	"hyper2kvm/pipeline/disk/vhost"
)

// Bounds of what is under way, of all disks together.
const (
	// inFlight is the memory for chunks that are read and not yet written.
	inFlight = 16 << 20
	// unsaved is how much may be written that no journal tells of: with what is in
	// flight, all that is copied again when a copy was killed. Of each of several
	// disks with large chunks it is one chunk at least.
	unsaved = 48 << 20
)

// budget is what copies that run side by side share.
type budget struct {
	memory  *vhost.Memory
	buffers chan []byte // all of the memory
	unsaved int64       // of each disk, bytes
	limit   *throttle
}

// newBudget is for so many disks, none with larger chunks.
func newBudget(disks int, chunk int64, limit *throttle) (*budget, error) {
	n := max(2, inFlight/chunk)
	m, err := vhost.NewMemory(int(n * chunk))
	if err != nil {
		return nil, err
	}
	b := &budget{m, make(chan []byte, n), unsaved / int64(max(1, disks)), limit}
	for p := range slices.Chunk(m.Bytes(), int(chunk)) {
		b.buffers <- p
	}
	return b, nil
}

func (b *budget) close() error { return b.memory.Close() }

// take waits for room for a chunk.
func (b *budget) take(ctx context.Context) ([]byte, error) {
	select {
	case p := <-b.buffers:
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b *budget) give(p []byte) { b.buffers <- p }

// joiner is a disk that there is a quicker way to from a shared memory.
type joiner interface {
	join(ctx context.Context, m *vhost.Memory)
}

// share lets a disk use the budget's memory.
func (b *budget) share(ctx context.Context, r Reader) {
	if j, ok := r.(joiner); ok {
		j.join(ctx, b.memory)
	}
}
