package disk

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Near is a remote disk of which what was read is kept here, in a file without a name:
// a guest's files are read several times, in small pieces, by each stage and by the
// machine that is booted, and in the end the disk is copied. The disk does not change,
// so what is kept is good until Close. Where there is no ample room nothing is kept.
type Near struct {
	Remote
	file *os.File // nil: nothing is kept
	mu   sync.Mutex
	have []uint64                // a bit for each block
	busy map[int64]chan struct{} // blocks that somebody reads now
	size int64                   // of what is kept, bytes
}

const (
	// nearBlock is what is read at least, in bytes: a round trip takes as long as the
	// bytes of some blocks of the guest's.
	nearBlock = 64 << 10
	// nearAtOnce is how much is read at a time, in bytes.
	nearAtOnce = 1 << 20
	// mostNear is how much is kept of a disk, in bytes; what comes later is not.
	mostNear = 4 << 30
)

// Keep keeps near, in a folder with ample room, what is read of a remote disk.
func Keep(r Remote, dir string) *Near {
	n := &Near{Remote: r, busy: map[int64]chan struct{}{}}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || int64(s.Bavail) < ampleRoom/s.Bsize {
		return n
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return n // a file system without: what is not kept is read again
	}
	n.file = os.NewFile(uintptr(fd), dir)
	n.have = make([]uint64, (r.Size()/nearBlock+64)/64)
	return n
}

// Read implements Remote.
func (n *Near) Read(ctx context.Context, p []byte, off int64) error {
	if n.file == nil || off < 0 || off > n.Size()-int64(len(p)) {
		return n.Remote.Read(ctx, p, off)
	}
	for len(p) > 0 {
		piece := p[:min(int64(len(p)), nearAtOnce-off%nearAtOnce)]
		if err := n.piece(ctx, piece, off); err != nil {
			return err
		}
		p, off = p[len(piece):], off+int64(len(piece))
	}
	return nil
}

// piece reads from here what is kept, and fetches the rest.
func (n *Near) piece(ctx context.Context, p []byte, off int64) error {
	first, last := off/nearBlock, (off+int64(len(p))-1)/nearBlock
	for {
		from, to, wait := n.claim(first, last)
		switch {
		case wait != nil:
			select {
			case <-wait:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case from > last:
			_, err := n.file.ReadAt(p, off)
			return err
		default:
			if kept, err := n.fetch(ctx, from, to); err != nil || !kept {
				if err == nil {
					err = n.Remote.Read(ctx, p, off)
				}
				return err
			}
		}
	}
}

// claim finds the first blocks of a range that are not here, for the caller to fetch;
// or what is closed when somebody has fetched the first of them. With from behind the
// last all are here.
func (n *Near) claim(first, last int64) (from, to int64, wait chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	from = first
	for from <= last && n.has(from) {
		from++
	}
	if from > last {
		return from, from, nil
	}
	if b := n.busy[from]; b != nil {
		return 0, 0, b
	}
	done := make(chan struct{})
	for to = from; to <= last && !n.has(to) && n.busy[to] == nil; to++ {
		n.busy[to] = done
	}
	return from, to, nil
}

func (n *Near) has(block int64) bool { return n.have[block/64]&(1<<(block%64)) != 0 }

// fetch reads blocks, and keeps them if there is room; for none the error is nil, and
// they are not kept.
func (n *Near) fetch(ctx context.Context, from, to int64) (kept bool, err error) {
	begin, end := from*nearBlock, min(to*nearBlock, n.Size())
	buffer := make([]byte, end-begin)
	if kept = n.room(end - begin); kept {
		if err = n.Remote.Read(ctx, buffer, begin); err == nil {
			_, failed := n.file.WriteAt(buffer, begin)
			kept = failed == nil // the storage is full, or does not work
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.busy[from])
	for b := from; b < to; b++ {
		delete(n.busy, b)
		if kept && err == nil {
			n.have[b/64] |= 1 << (b % 64)
		}
	}
	return kept, err
}

// room tells whether so many bytes more may be kept.
func (n *Near) room(bytes int64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.size+bytes > mostNear {
		return false
	}
	n.size += bytes
	return true
}

// Once is the same disk for who passes over it once: what is kept is taken from here,
// and no more is kept. Its Close does nothing.
func (n *Near) Once() Remote { return passing{n} }

// passing reads a disk from start to end.
type passing struct{ *Near }

// Read implements Remote.
func (p passing) Read(ctx context.Context, b []byte, off int64) error {
	if p.file != nil && p.all(off, int64(len(b))) {
		_, err := p.file.ReadAt(b, off)
		return err
	}
	return p.Remote.Read(ctx, b, off)
}

// Close implements Remote.
func (passing) Close() error { return nil }

// all tells whether all of a range is here.
func (n *Near) all(off, length int64) bool {
	if length == 0 || off < 0 || off > n.Size()-length {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for b := off / nearBlock; b <= (off+length-1)/nearBlock; b++ {
		if !n.has(b) {
			return false
		}
	}
	return true
}

// Close lets go of what is kept. The disk itself stays open.
func (n *Near) Close() error {
	if n.file == nil {
		return nil
	}
	return n.file.Close()
}
