package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"hyper2kvm/pipeline/disk"
)

// ErrDiffers is a disk that is not what its manifest says.
var ErrDiffers = errors.New("the disk is not what its manifest says")

// Verified is what came of reading a disk.
type Verified struct {
	Size  int64   `json:"size"` // of the disk, bytes
	Read  int64   `json:"read"` // bytes that were no holes
	Wrong int64   `json:"wrong"`
	First []Range `json:"first,omitempty"` // the first of the chunks that are wrong
}

// Range is a part of a disk.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"` // bytes
}

// mostWrong is how many wrong chunks are named.
const mostWrong = 16

// Check is a disk that is compared with its manifest.
type Check struct {
	Manifest string // path
	From     disk.Export
	Source   bool // it is the source that the target was made from
	Device   bool // it may be larger than what it holds
}

// Verify reads a disk whole and compares it with a manifest: with what that tells
// of the target, or of the source that the target was made from, which may be
// smaller: behind its end it is taken for zeroes. Its error is ErrDiffers if it is
// another, and ErrManifest if the manifest is damaged.
func (p Parallel) Verify(ctx context.Context, c Check, report func(Progress)) (Verified, error) {
	m, err := openManifest(c.Manifest, os.O_RDONLY)
	if err != nil {
		return Verified{}, err
	}
	defer m.close()
	if err := m.sealed(); err != nil {
		return Verified{}, fmt.Errorf("%s: %w", c.Manifest, err)
	}
	if c.Source {
		if err := m.ofSource(); err != nil {
			return Verified{}, fmt.Errorf("%s: %w", c.Manifest, err)
		}
	}
	var r Reader
	if r, err = openDisk(ctx, c.From, p.patience()); err != nil {
		return Verified{}, err
	}
	defer r.Close()
	if c.Source && r.Size() < m.Size {
		r = padded{r, m.Size}
	}
	if n := r.Size(); n < m.Size || n > m.Size && !c.Device {
		return Verified{}, fmt.Errorf("%w: it has %d bytes, the manifest tells of %d", ErrDiffers, n, m.Size)
	}
	return verify(ctx, limited{r, newThrottle(p.Limits)}, m, report)
}

// limited is a disk that is read no faster than is allowed.
type limited struct {
	Reader
	limit *throttle
}

func (l limited) Read(ctx context.Context, p []byte, off int64) error {
	if err := l.limit.wait(ctx, int64(len(p))); err != nil {
		return err
	}
	return l.Reader.Read(ctx, p, off)
}

func verify(ctx context.Context, r Reader, m *manifest, report func(Progress)) (Verified, error) {
	v := Verified{Size: m.Size}
	var mu sync.Mutex
	var at meter
	stop := nowAndThen(func() {
		report(Progress{Virtual: at.virtual.Load(), Total: m.Size, Wire: at.wire.Load()})
	})
	err := compare(ctx, r, m, nil, &at, func(i int64) {
		mu.Lock()
		defer mu.Unlock()
		if v.Wrong++; len(v.First) < mostWrong {
			v.First = append(v.First, Range{i * m.Chunk, m.length(i)})
		}
	})
	stop()
	v.Read = at.wire.Load()
	if err == nil && v.Wrong > 0 {
		err = fmt.Errorf("%w: %d of %d pieces differ, one of them at byte %d", ErrDiffers, v.Wrong, m.chunks(), v.First[0].Offset)
	}
	return v, err
}

// meter counts bytes.
type meter struct{ wire, virtual atomic.Int64 }

// compare reads chunks and calls wrong, from several goroutines at once, for
// those whose digest is another; those of some set, or all if it is nil.
func compare(ctx context.Context, r Reader, m *manifest, some bitmap, at *meter, wrong func(i int64)) error {
	inner, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	work := make(chan piece)
	var group sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		group.Go(func() {
			buffer := make([]byte, m.Chunk)
			for p := range work {
				n, err := m.compare(inner, r, p, buffer, wrong)
				if err != nil {
					fail(err)
				}
				at.wire.Add(n)
				at.virtual.Add(m.lengthOf(p))
			}
		})
	}
	for p, err := range pieces(inner, r, m.header, 0, m.chunks()) {
		if err != nil {
			fail(err)
			break
		}
		if len(p.data) == 0 || some == nil || some.has(p.first) {
			work <- p
		}
	}
	close(work)
	group.Wait()
	return context.Cause(inner)
}

// compare looks at one piece, by way of a buffer of a chunk's length.
func (m *manifest) compare(ctx context.Context, r Reader, p piece, buffer []byte, wrong func(i int64)) (int64, error) {
	if len(p.data) == 0 {
		return 0, m.compareHole(p, wrong)
	}
	buffer = buffer[:m.length(p.first)]
	clear(buffer)
	read := int64(0)
	for _, e := range p.data {
		at := e.Offset - p.first*m.Chunk
		if err := r.Read(ctx, buffer[at:at+e.Length], e.Offset); err != nil {
			return read, fmt.Errorf("read %d bytes at %d: %w", e.Length, e.Offset, err)
		}
		read += e.Length
	}
	want, err := m.get(p.first)
	if err == nil && digestOf(buffer) != want {
		wrong(p.first)
	}
	return read, err
}

func (m *manifest) compareHole(p piece, wrong func(i int64)) error {
	for p.count > 0 {
		n := min(p.count, recordChunks)
		digests, err := m.raw(p.first, n)
		if err != nil {
			return err
		}
		for i := range n {
			d := Digest(digests[i*digestSize:])
			if other, ok := m.instead[p.first+i]; ok {
				d = other
			}
			if d != (Digest{}) {
				wrong(p.first + i)
			}
		}
		p.first, p.count = p.first+n, p.count-n
	}
	return nil
}
