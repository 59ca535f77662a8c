package nbd

import (
	"errors"
	"slices"
	"sync"
	"testing"
)

// told is a server's answer to every block status: descriptors of 7, which is
// base:allocation, and of 8.
func told(t *testing.T, minimum uint32, allocation, other []uint32) *Client {
	t.Helper()
	o := scripted(t, func(p *peer) {
		p.negotiate(terms{size: 5 << 32, flags: everything, blocks: [3]uint32{minimum, 64 << 10, 1 << 20}, more: []string{"x:other"}})
		for a, ok := p.request(); ok && a.command == cmdBlockStatus; a, ok = p.request() {
			p.send(join(chunk(a, 0, chunkStatus, uint32(8), other), chunk(a, 0, chunkStatus, uint32(7), allocation), done(a)))
		}
	})
	o.Contexts = []string{Allocation, "x:other"}
	return dial(t, o)
}

func TestExtentsAreWhatTheServerSays(t *testing.T) {
	const k = 1 << 10
	for _, test := range []struct {
		name    string
		minimum uint32
		told    []uint32
		n       int64
		want    []Extent
		other   bool
	}{
		{"all", 1, []uint32{4 * k, 0, 4 * k, 3}, 8 * k, []Extent{{4 * k, 0}, {4 * k, Hole | Zero}}, false},
		{"less than was asked", 1, []uint32{1, 2}, 8 * k, []Extent{{1, Zero}}, false},
		{"more than was asked", 1, []uint32{4 * k, 0, ^uint32(0), 3}, 8 * k, []Extent{{4 * k, 0}, {4 * k, 3}}, false},
		{"extents beyond what was asked", 1, []uint32{8 * k, 0, 4 * k, 3}, 8 * k, []Extent{{8 * k, 0}}, false},
		{"neighbours alike", 1, []uint32{k, 1, k, 1, k, 1}, 8 * k, []Extent{{3 * k, Hole}}, false},
		{"of another context", 1, []uint32{k, 4711}, 8 * k, []Extent{{k, 4711}}, true},
		{"the first of many bytes", 1, []uint32{1 << 31, 0}, 5 << 32, []Extent{{1 << 31, 0}}, false},
		{"a block with a hole in it", k, []uint32{512, 0, 512, 3, 2 * k, 3}, 8 * k, []Extent{{k, 0}, {2 * k, 3}}, false},
		{"a block that is zero for two reasons", k, []uint32{512, 2, 512, 3, 2 * k, 3}, 8 * k, []Extent{{k, 2}, {2 * k, 3}}, false},
		{"small parts in one block", k, []uint32{k, 3, 100, 3, 100, 2, 100, 3, 724, 3, k, 3}, 8 * k, []Extent{{k, 3}, {k, 2}, {k, 3}}, false},
		{"a last part of a block", k, []uint32{k, 3, 100, 3}, 8 * k, []Extent{{k, 3}}, false},
		{"nothing but a part", k, []uint32{100, 3}, 8 * k, []Extent{{k, 0}}, false},
		{"a part of another context", k, []uint32{512, 0, 512, 1, k, 0}, 8 * k, []Extent{{k, 1}, {k, 0}}, true},
	} {
		name, rest := Allocation, []uint32{1, 77}
		a, b := test.told, rest
		if test.other {
			name, a, b = "x:other", rest, test.told
		}
		got, err := told(t, test.minimum, a, b).Extents(t.Context(), name, 0, test.n)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("Extents of %s = %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

func TestAContextThatIsMissingIsTold(t *testing.T) {
	c := told(t, 1, []uint32{1, 0}, []uint32{1, 0})
	if got := c.Contexts(); !slices.Equal(got, []string{Allocation, "x:other"}) {
		t.Errorf("Contexts = %v", got)
	}
	if _, err := c.Extents(t.Context(), "qemu:dirty-bitmap:b", 0, 512); !errors.Is(err, ErrNoContext) {
		t.Errorf("Extents = %v, want %v", err, ErrNoContext)
	}
}

func TestTheMostExtentsAreTaken(t *testing.T) {
	most := make([]uint32, 0, 2*maxExtents)
	for i := range uint32(maxExtents) {
		most = append(most, 512, i&1)
	}
	got, err := told(t, 512, most, []uint32{1, 0}).Extents(t.Context(), Allocation, 0, 1<<30)
	if err != nil || len(got) != maxExtents {
		t.Errorf("Extents = %d of them, %v, want %d", len(got), err, maxExtents)
	}
}

func TestSpansAreASet(t *testing.T) {
	for _, test := range []struct {
		add  []span
		ok   bool // of the last one
		want spans
	}{
		{[]span{{0, 4}, {4, 8}}, true, spans{{0, 8}}},
		{[]span{{4, 8}, {0, 4}}, true, spans{{0, 8}}},
		{[]span{{0, 2}, {4, 8}, {2, 4}}, true, spans{{0, 8}}},
		{[]span{{4, 6}, {0, 2}, {8, 9}}, true, spans{{0, 2}, {4, 6}, {8, 9}}},
		{[]span{{4, 8}, {0, 5}}, false, spans{{4, 8}}},
		{[]span{{4, 8}, {7, 9}}, false, spans{{4, 8}}},
		{[]span{{4, 8}, {5, 6}}, false, spans{{4, 8}}},
		{[]span{{4, 8}, {4, 8}}, false, spans{{4, 8}}},
		{[]span{{4, 8}, {0, 20}}, false, spans{{4, 8}}},
		{[]span{{0, 4}, {6, 8}, {4, 7}}, false, spans{{0, 4}, {6, 8}}},
	} {
		var s spans
		ok := false
		for _, a := range test.add {
			ok = s.add(a.from, a.to)
		}
		if ok != test.ok || !slices.Equal(s, test.want) {
			t.Errorf("add(%v) = %v, %v, want %v, %v", test.add, s, ok, test.want, test.ok)
		}
	}
}

func TestExtentsOfManyRequestsAreNotMixedUp(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		for a, ok := p.request(); ok && a.command != cmdDisconnect; a, ok = p.request() {
			p.send(join(chunk(a, 0, chunkStatus, uint32(7), a.length, uint32(a.off)), done(a)))
		}
	}))
	var wg sync.WaitGroup
	for w := range int64(8) {
		wg.Go(func() {
			for off := w; off < 4000; off += 8 {
				all, err := c.Extents(t.Context(), Allocation, off, off+1)
				if err != nil || !slices.Equal(all, []Extent{{off + 1, uint32(off)}}) {
					t.Errorf("Extents of %d = %v, %v", off, all, err)
				}
			}
		})
	}
	wg.Wait()
}
