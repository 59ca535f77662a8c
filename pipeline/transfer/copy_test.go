package transfer

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
)

// patterned is size bytes of which about every third chunk is data, and some
// pieces of data are zeroes.
func patterned(size int64) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	data := make([]byte, size)
	for off := int64(0); off < size; off += 64 << 10 {
		if off>>20%3 == 0 && random.IntN(4) > 0 {
			for i := off; i < min(size, off+64<<10); i += 512 {
				data[i] = byte(1 + random.IntN(255))
			}
		}
	}
	return data
}

// half is a copy in memory that was begun, of which the test plays both disks.
type half struct {
	from, to *memory
	dir      string
	h        header
}

func newHalf(t *testing.T, size int64) *half {
	t.Helper()
	return &half{&memory{data: patterned(size)}, &memory{data: make([]byte, size)}, t.TempDir(), newHeader("x", size)}
}

// run goes on with the copy, with so many bytes that no journal tells of.
func (x *half) run(t *testing.T, ctx context.Context, unsaved int64) (*copying, error) {
	t.Helper()
	journalPath, manifestPath := filepath.Join(x.dir, "j"), filepath.Join(x.dir, "m")
	var m *manifest
	var j *journal
	var done bitmap
	_, err := os.Stat(journalPath)
	fresh := err != nil
	if fresh {
		if m, err = createManifest(manifestPath, x.h); err == nil {
			j, err = createJournal(journalPath, x.h)
		}
	} else {
		if m, err = openManifest(manifestPath, os.O_RDWR); err == nil {
			j, err = openJournal(journalPath, x.h)
		}
		if err == nil {
			done, err = j.replay(m)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	defer j.close()
	b := testBudget(t, unsaved)
	c := newCopying(x.from, x.to, &saved{m, j, done, fresh}, b)
	err = c.run(ctx, pieces(ctx, x.from, x.h, 0, x.h.chunks()))
	if err == nil {
		err = m.seal()
	}
	return c, err
}

func testBudget(t *testing.T, unsaved int64) *budget {
	t.Helper()
	b, err := newBudget(1, leastChunk, newThrottle(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	b.unsaved = unsaved
	return b
}

func TestACopyHasItsSourcesContentAndDigests(t *testing.T) {
	x := newHalf(t, 40<<20+12345)
	if _, err := x.run(t, t.Context(), unsaved); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x.to.data, x.from.data) {
		t.Error("the copy differs")
	}
	m, err := openManifest(filepath.Join(x.dir, "m"), os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if err := m.sealed(); err != nil {
		t.Error(err)
	}
	if v, err := verify(t.Context(), x.to, m, func(Progress) {}); err != nil || v.Wrong != 0 {
		t.Errorf("verify = %+v, %v", v, err)
	}
	x.to.data[20<<20] ^= 1
	v, err := verify(t.Context(), x.to, m, func(Progress) {})
	if !errors.Is(err, ErrDiffers) || v.Wrong != 1 || v.First[0] != (Range{20 << 20, 1 << 20}) {
		t.Errorf("verify of a disk with a flipped bit = %+v, %v", v, err)
	}
}

// A copy that ends anywhere goes on without reading what its journal tells of.
func TestACopyGoesOnWhereItEnded(t *testing.T) {
	reason := errors.New("the operator left")
	for _, after := range []int64{0, 1, 5, 13, 39} {
		x := newHalf(t, 40<<20)
		ctx, cancel := context.WithCancelCause(t.Context())
		var reads atomic.Int64
		x.from.read = func(int64) error {
			if reads.Add(1) > after {
				cancel(reason)
			}
			return nil
		}
		if _, err := x.run(t, ctx, 4<<20); !errors.Is(err, reason) {
			t.Fatalf("after %d reads: %v, want %v", after, err, reason)
		}
		first := reads.Load()
		x.from.read = nil
		second, err := x.run(t, t.Context(), 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x.to.data, x.from.data) {
			t.Fatalf("after %d reads: the copy differs", after)
		}
		if again := first + second.wire.Load()>>20 - x.h.chunks(); again > 16 {
			t.Errorf("after %d reads: %d chunks were read twice", after, again)
		}
	}
}

// What a copy that goes on finds in its target, where the source has zeroes, is
// zeroed.
func TestACopyThatGoesOnZeroesWhatItDoesNotKnow(t *testing.T) {
	x := newHalf(t, 8<<20)
	x.from.list = func(off, n int64) ([]Extent, error) {
		if off < 4<<20 {
			return []Extent{{Offset: off, Length: min(n, 4<<20-off), Zero: true}}, nil
		}
		return []Extent{{Offset: off, Length: n}}, nil
	}
	clear(x.from.data[:4<<20])
	broken := errors.New("broken")
	x.from.read = func(int64) error { return broken }
	if _, err := x.run(t, t.Context(), unsaved); !errors.Is(err, ErrSource) || !errors.Is(err, broken) {
		t.Fatalf("a source that cannot be read: %v, want %v", err, ErrSource)
	}
	if err := os.Truncate(filepath.Join(x.dir, "j"), headerSize); err != nil {
		t.Fatal(err)
	}
	for i := range x.to.data {
		x.to.data[i] = 7
	}
	x.from.read = nil
	if _, err := x.run(t, t.Context(), unsaved); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x.to.data, x.from.data) {
		t.Error("the copy differs")
	}
}

// full is a target whose storage takes no more.
type full struct {
	*memory
	room atomic.Int64
}

func (f *full) Write(ctx context.Context, p []byte, off int64) error {
	if f.room.Add(-int64(len(p))) < 0 {
		return syscall.ENOSPC
	}
	return f.memory.Write(ctx, p, off)
}

// flushless is a target whose flush fails.
type flushless struct{ *memory }

func (flushless) Flush(context.Context) error { return syscall.EIO }

func TestATargetThatCannotBeWrittenEndsTheCopy(t *testing.T) {
	for name, to := range map[string]func(*memory) Writer{
		"full":          func(m *memory) Writer { f := &full{memory: m}; f.room.Store(3 << 20); return f },
		"flushes fail":  func(m *memory) Writer { return flushless{m} },
		"full at first": func(m *memory) Writer { return &full{memory: m} },
	} {
		x := newHalf(t, 40<<20)
		m, err := createManifest(filepath.Join(x.dir, "m"), x.h)
		if err != nil {
			t.Fatal(err)
		}
		j, err := createJournal(filepath.Join(x.dir, "j"), x.h)
		if err != nil {
			t.Fatal(err)
		}
		b := testBudget(t, 2<<20) // room ends while the journal fails
		c := newCopying(x.from, to(x.to), &saved{m, j, nil, true}, b)
		err = c.run(t.Context(), pieces(t.Context(), x.from, x.h, 0, x.h.chunks()))
		if !errors.Is(err, ErrTarget) {
			t.Errorf("%s: %v, want %v", name, err, ErrTarget)
		}
		if done, err := j.replay(m); err != nil || len(done.runs(x.h.chunks())) > 0 && name != "full" {
			t.Errorf("%s: the journal tells of %v, %v", name, done.runs(x.h.chunks()), err)
		}
		if err := errors.Join(m.close(), j.close()); err != nil {
			t.Error(err)
		}
	}
}

// synced counts how often a target was brought to stable storage.
type synced struct {
	*memory
	times atomic.Int64
}

func (s *synced) Sync(context.Context) error {
	s.times.Add(1)
	return nil
}

func TestACopyEndsOnStableStorage(t *testing.T) {
	x := newHalf(t, 4<<20)
	m, err := createManifest(filepath.Join(x.dir, "m"), x.h)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	j, err := createJournal(filepath.Join(x.dir, "j"), x.h)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	to := &synced{memory: x.to}
	s := &saved{m, j, nil, true}
	parts := []iter.Seq2[piece, error]{pieces(t.Context(), x.from, x.h, 1, 3), pieces(t.Context(), x.from, x.h, 0, 1)}
	c := newCopying(x.from, to, s, testBudget(t, unsaved))
	if err := (Job{}).fillOpened(t.Context(), s, c, filling{todo: parts, report: silent}); err != nil {
		t.Fatal(err)
	}
	if n := to.times.Load(); n != 2 || !bytes.Equal(x.to.data, x.from.data) {
		t.Errorf("it was brought there %d times, want once between its parts and once at its end", n)
	}
}

// A buffer that a server may still write to is not another chunk's.
func TestABufferThatFailedIsNotUsedAgain(t *testing.T) {
	x := newHalf(t, 64<<20)
	b := testBudget(t, unsaved)
	all := len(b.free)
	m, err := createManifest(filepath.Join(x.dir, "m"), x.h)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	j, err := createJournal(filepath.Join(x.dir, "j"), x.h)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	x.from.read = func(int64) error { return syscall.EIO }
	c := newCopying(x.from, x.to, &saved{m, j, nil, true}, b)
	if err := c.run(t.Context(), pieces(t.Context(), x.from, x.h, 0, x.h.chunks())); !errors.Is(err, syscall.EIO) {
		t.Fatalf("run = %v, want %v", err, syscall.EIO)
	}
	if left := len(b.free); left >= all {
		t.Errorf("%d of %d buffers are there again", left, all)
	}
}
