package transfer

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

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
	chunks  int64 // that the memory has room for
	room    *semaphore.Weighted
	unsaved int64 // of each disk, bytes
	limit   *throttle

	mu   sync.Mutex
	free [][]byte // the last one given back is the last: a processor's cache may hold it
}

// newBudget is for so many disks, none with larger chunks.
func newBudget(disks int, chunk int64, limit *throttle) (*budget, error) {
	n := max(2, inFlight/chunk)
	m, err := vhost.NewMemory(int(n * chunk))
	if err != nil {
		return nil, err
	}
	b := &budget{memory: m, chunks: n, room: semaphore.NewWeighted(n), unsaved: unsaved / int64(max(1, disks)), limit: limit}
	b.free = slices.Collect(slices.Chunk(m.Bytes(), int(chunk)))
	return b, nil
}

func (b *budget) close() error { return b.memory.Close() }

// take waits for room for a chunk.
func (b *budget) take(ctx context.Context) ([]byte, error) {
	if b.room.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(b.free) - 1
	p := b.free[last]
	b.free = b.free[:last]
	return p, nil
}

func (b *budget) give(p []byte) {
	b.mu.Lock()
	b.free = append(b.free, p)
	b.mu.Unlock()
	b.room.Release(1)
}

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
