package transfer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is a disk in memory, with the extents that it is told to have.
type memory struct {
	data []byte
	list func(off, n int64) ([]Extent, error) // nil: all is data
	read func(off int64) error                // before each read
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) Read(_ context.Context, p []byte, off int64) error {
	if m.read != nil {
		if err := m.read(off); err != nil {
			return err
		}
	}
	copy(p, m.data[off:])
	return nil
}

func (m *memory) Extents(_ context.Context, off, n int64) ([]Extent, error) {
	if m.list == nil {
		return []Extent{{Offset: off, Length: n}}, nil
	}
	return m.list(off, n)
}

func (m *memory) Close() error { return nil }

func (m *memory) Write(_ context.Context, p []byte, off int64) error {
	copy(m.data[off:], p)
	return nil
}

func (m *memory) Zero(_ context.Context, off, n int64) error {
	clear(m.data[off : off+n])
	return nil
}

func (m *memory) Flush(context.Context) error { return nil }
func (m *memory) Sync(context.Context) error  { return nil }

func piecesOf(t *testing.T, r Reader, h header) []piece {
	t.Helper()
	var list []piece
	for p, err := range pieces(t.Context(), r, h, 0, h.chunks()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestADiskIsCutAtItsChunksAndHoles(t *testing.T) {
	const mib = 1 << 20
	h := newHeader("x", 8*mib+mib/2)
	data, hole := func(off, n int64) Extent { return Extent{Offset: off, Length: n} }, func(off, n int64) Extent { return Extent{Offset: off, Length: n, Zero: true} }
	one := func(first int64, data ...Extent) piece { return piece{first: first, count: 1, data: data} }
	for name, c := range map[string]struct {
		extents []Extent
		want    []piece
	}{
		"a hole is one piece": {[]Extent{hole(0, h.Size)}, []piece{{first: 0, count: 9}}},
		"data are one a chunk": {[]Extent{data(0, 2*mib), hole(2*mib, h.Size-2*mib)},
			[]piece{one(0, data(0, mib)), one(1, data(mib, mib)), {first: 2, count: 7}}},
		"data in the midst of a hole": {[]Extent{hole(0, 3*mib+4096), data(3*mib+4096, 512), hole(3*mib+4608, h.Size-3*mib-4608)},
			[]piece{{first: 0, count: 3}, one(3, data(3*mib+4096, 512)), {first: 4, count: 5}}},
		"a small hole is read": {[]Extent{data(0, 4096), hole(4096, 4096), data(8192, 4096), hole(12288, h.Size-12288)},
			[]piece{one(0, data(0, 12288)), {first: 1, count: 8}}},
		"a large hole is not": {[]Extent{data(0, 4096), hole(4096, 64<<10), data(68<<10, 4096), hole(72<<10, h.Size-72<<10)},
			[]piece{one(0, data(0, 4096), data(68<<10, 4096)), {first: 1, count: 8}}},
		"the last chunk is short": {[]Extent{hole(0, 8*mib), data(8*mib, mib/2)}, []piece{{first: 0, count: 8}, one(8, data(8*mib, mib/2))}},
	} {
		m := &memory{data: make([]byte, h.Size), list: func(off, _ int64) ([]Extent, error) {
			if off != 0 {
				t.Errorf("%s: asked at %d", name, off)
			}
			return c.extents, nil
		}}
		if d := cmp.Diff(c.want, piecesOf(t, m, h), cmp.AllowUnexported(piece{})); d != "" {
			t.Errorf("%s: (-want +got):\n%s", name, d)
		}
	}
}

// Whatever the extents, every chunk is in one piece, in order, and all data are in
// those of their chunk.
func TestPiecesLeaveNothingOut(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		h := newHeader("x", (1+random.Int64N(20))<<19)
		data := make([]byte, h.Size)
		m := &memory{data: data, list: func(off, n int64) ([]Extent, error) {
			var list []Extent
			for ; n > 0 && len(list) < 5; off = list[len(list)-1].Offset + list[len(list)-1].Length {
				e := Extent{Offset: off, Length: min(n, 512*(1+random.Int64N(4000))), Zero: random.IntN(2) == 0}
				if !e.Zero {
					data[e.Offset], data[e.Offset+e.Length-1] = 1, 1
				}
				list, n = append(list, e), n-e.Length
			}
			return list, nil
		}}
		next, seen := int64(0), make([]byte, h.Size)
		for _, p := range piecesOf(t, m, h) {
			if p.first != next || p.count < 1 || len(p.data) > 0 && p.count != 1 {
				t.Fatalf("after chunk %d comes %+v", next-1, p)
			}
			for _, e := range p.data {
				copy(seen[e.Offset:e.Offset+e.Length], data[e.Offset:])
				if e.Offset/h.Chunk != p.first || (e.Offset+e.Length-1)/h.Chunk != p.first {
					t.Fatalf("%+v is not of chunk %d", e, p.first)
				}
			}
			next += p.count
		}
		if next != h.chunks() || !bytes.Equal(seen, data) {
			t.Fatalf("%d of %d chunks, data left out: %v", next, h.chunks(), !bytes.Equal(seen, data))
		}
	}
}

func TestExtentsThatDoNotFollowAreNotBelieved(t *testing.T) {
	h := newHeader("x", 4<<20)
	for name, list := range map[string][]Extent{
		"none":       {},
		"a gap":      {{Offset: 512, Length: 512}},
		"too long":   {{Offset: 0, Length: 5 << 20}},
		"empty":      {{Offset: 0, Length: 0}},
		"going back": {{Offset: 0, Length: 1 << 20}, {Offset: 0, Length: 1 << 20}},
	} {
		m := &memory{data: make([]byte, h.Size), list: func(int64, int64) ([]Extent, error) { return list, nil }}
		var failed error
		for _, err := range pieces(t.Context(), m, h, 0, h.chunks()) {
			failed = errors.Join(failed, err)
		}
		if failed == nil {
			t.Errorf("%s: believed", name)
		}
	}
}
