package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
)

// memory is a disk in memory, whose reads may fail.
type memory struct {
	raw    []byte
	fail   func(n int64) error // of the nth read; nil: none
	hangs  chan struct{}       // reads wait for it, or for their context
	n      atomic.Int64
	closed atomic.Int64
}

func (m *memory) Size() int64 { return int64(len(m.raw)) }

func (m *memory) Read(ctx context.Context, p []byte, off int64) error {
	n := m.n.Add(1)
	if m.hangs != nil {
		select {
		case <-m.hangs:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if m.fail != nil {
		if err := m.fail(n); err != nil {
			return err
		}
	}
	copy(p, m.raw[off:])
	return nil
}

func (m *memory) Extents(_ context.Context, off, n int64) ([]disk.Allocation, error) {
	return []disk.Allocation{{Offset: off, Length: n}}, nil
}

func (m *memory) Close() error {
	m.closed.Add(1)
	return nil
}

// way is a transport to a disk in memory.
func way(name string, m *memory) Transport {
	return Transport{Name: name, Open: func(context.Context, Access, Disk) (disk.Remote, error) { return m, nil }}
}

// no is a transport that opens nothing.
func no(name string, why error) Transport {
	return Transport{Name: name, Open: func(context.Context, Access, Disk) (disk.Remote, error) { return nil, why }}
}

// told are events as text.
type told struct {
	mu   sync.Mutex
	list []string
}

func (l *told) tell(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprint(e.Disk, " ", e.Transport, " ", e.Used, " ", e.Reason))
}

func (l *told) want(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.list, want) {
		t.Errorf("told %q, want %q", l.list, want)
	}
}

var errBroken = errors.New("it broke")

func TestTransportsAreTriedInOrder(t *testing.T) {
	raw := content()
	m, small := &memory{raw: raw}, &memory{raw: raw[:512]}
	var l told
	d := Disk{Key: 2000, Size: int64(len(raw))}
	list := []Transport{no("a", fmt.Errorf("%w: there is no a", ErrUnusable)), no("b", errBroken), way("small", small), way("c", m), no("d", errBroken)}
	r := must(Open(t.Context(), list, Access{}, d, l.tell))(t)
	reads(t, r, raw)
	must(0, r.Close())(t)
	must(0, r.Close())(t)
	l.want(t, "2000 a false cannot be used: there is no a", "2000 b false it broke",
		"2000 small false cannot be used: it has a disk of 512 bytes, where 6330880 are to be read", "2000 c true <nil>")
	if m.closed.Load() != 1 || small.closed.Load() != 1 {
		t.Errorf("closed %d and %d times", m.closed.Load(), small.closed.Load())
	}
	if err := r.Read(t.Context(), make([]byte, 1), 0); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := Open(t.Context(), list[:3], Access{}, d, l.tell); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "b: it broke") {
		t.Errorf("without any that works: %v", err)
	}
	if _, err := Open(t.Context(), []Transport{no("a", fmt.Errorf("the snapshot %w", ErrGone)), way("c", m)}, Access{}, d, l.tell); !errors.Is(err, ErrGone) {
		t.Errorf("a snapshot that is gone: %v", err)
	}
}

// However many read when a transport fails, the next one is opened once, reads the same
// bytes, and the old one is closed once, when nobody uses it.
func TestATransportThatFailsInTheMiddleIsLeftOnce(t *testing.T) {
	quick(t)
	raw := content()
	first := &memory{raw: raw, fail: func(n int64) error {
		if n > 20 {
			return errBroken
		}
		return nil
	}}
	second, third := &memory{raw: raw, fail: func(n int64) error {
		if n == 30 {
			return errBroken
		}
		return nil
	}}, &memory{raw: raw}
	var l told
	r := must(Open(t.Context(), []Transport{way("first", first), way("second", second), way("third", third)}, Access{}, Disk{Size: int64(len(raw))}, l.tell))(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				off := (i*50 + j) * 9999
				p := make([]byte, 9999)
				if err := r.Read(t.Context(), p, int64(off)); err != nil || !bytes.Equal(p, raw[off:off+9999]) {
					t.Errorf("%v, or other bytes", err)
				}
			}
		})
	}
	group.Wait()
	must(0, r.Close())(t)
	l.want(t, "0 first true <nil>", "0 first false it broke", "0 second true <nil>", "0 second false it broke", "0 third true <nil>")
	for _, m := range []*memory{first, second, third} {
		if m.closed.Load() != 1 {
			t.Errorf("closed %d times", m.closed.Load())
		}
	}
}

// What hangs in a transport that another reader found broken is read by the next one.
func TestAReadThatHangsIsTakenAlong(t *testing.T) {
	raw := content()
	hangs := &memory{raw: raw, hangs: make(chan struct{})}
	r := must(Open(t.Context(), []Transport{way("hangs", hangs), way("works", &memory{raw: raw})}, Access{}, Disk{}, nil))(t)
	c := r.(*carrier)
	var group sync.WaitGroup
	group.Go(func() { reads(t, r, raw) })
	for hangs.n.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock()
	now := c.now
	c.mu.Unlock()
	c.drop(now, errBroken)
	group.Wait()
	c.drop(now, errBroken) // by one who noticed late: the next one stays
	c.mu.Lock()
	if c.now == nil {
		t.Error("the one that works was left")
	}
	c.mu.Unlock()
	must(0, r.Close())(t)
}

// The last transport is opened again, until that takes too long.
func TestTheLastTransportIsOpenedAgain(t *testing.T) {
	quick(t)
	raw := content()
	var opens, breaks atomic.Int64
	m := &memory{raw: raw, fail: func(n int64) error {
		if breaks.Load() > 0 {
			breaks.Add(-1)
			return errBroken
		}
		return nil
	}}
	last := Transport{Name: "last", Open: func(context.Context, Access, Disk) (disk.Remote, error) {
		if n := opens.Add(1); n > 1 && n < 5 || n > 100 {
			return nil, fmt.Errorf("%w: not now", ErrUnusable)
		}
		return m, nil
	}}
	var l told
	r := must(Open(t.Context(), []Transport{last, no("none", errBroken)}, Access{}, Disk{}, l.tell))(t)
	breaks.Store(1)
	reads(t, r, raw)
	if opens.Load() != 5 {
		t.Errorf("opened %d times", opens.Load())
	}
	breaks.Store(1 << 40)
	began := time.Now()
	if err := r.Read(t.Context(), make([]byte, 1), 0); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	must(0, r.Close())(t)
}

func TestWhatIsGoneIsTriedByNoOther(t *testing.T) {
	raw := content()
	other := &memory{raw: raw}
	gone := &memory{raw: raw, fail: func(int64) error { return fmt.Errorf("the file %w", ErrGone) }}
	r := must(Open(t.Context(), []Transport{way("first", gone), way("other", other)}, Access{}, Disk{}, nil))(t)
	if err := r.Read(t.Context(), make([]byte, 1), 0); !errors.Is(err, ErrGone) || other.n.Load() > 0 {
		t.Errorf("%v, and the other was asked %d times", err, other.n.Load())
	}
	must(0, r.Close())(t)
}

// slowly is a transport that says when it is opened, and opens when it may.
func slowly(raw []byte) (slow Transport, opening, goOn chan struct{}) {
	opening, goOn = make(chan struct{}), make(chan struct{})
	return Transport{Name: "slow", Open: func(ctx context.Context, _ Access, _ Disk) (disk.Remote, error) {
		close(opening)
		select {
		case <-goOn:
			return &memory{raw: raw}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}}, opening, goOn
}

func TestOneWhoGivesUpDoesNotEndTheOpening(t *testing.T) {
	raw, why := content(), errors.New("not wanted any more")
	slow, opening, goOn := slowly(raw)
	broken := &memory{raw: raw, fail: func(int64) error { return errBroken }}
	r := must(Open(t.Context(), []Transport{way("first", broken), slow}, Access{}, Disk{}, nil))(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := r.Read(ctx, make([]byte, 1), 0); !errors.Is(err, why) {
			t.Errorf("who gave up: %v", err)
		}
		close(goOn)
	})
	group.Go(func() { reads(t, r, raw) })
	<-opening
	cancel(why)
	group.Wait()
	must(0, r.Close())(t)
}

func TestCloseEndsTheOpening(t *testing.T) {
	raw := content()
	slow, opening, _ := slowly(raw)
	broken := &memory{raw: raw, fail: func(int64) error { return errBroken }}
	r := must(Open(t.Context(), []Transport{way("first", broken), slow}, Access{}, Disk{}, nil))(t)
	var group sync.WaitGroup
	group.Go(func() {
		if err := r.Read(t.Context(), make([]byte, 1), 0); !errors.Is(err, errClosed) {
			t.Errorf("who waits: %v", err)
		}
	})
	<-opening
	must(0, r.Close())(t)
	group.Wait()
	if n := broken.closed.Load(); n != 1 {
		t.Errorf("the first was closed %d times", n)
	}
}

// A context that ends while disks are opened ends that; later it has no say.
func TestTheContextOfOpenIsForOpening(t *testing.T) {
	why := errors.New("not wanted any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	hangs := Transport{Name: "hangs", Open: func(ctx context.Context, _ Access, _ Disk) (disk.Remote, error) {
		cancel(why)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}
	if _, err := Open(ctx, []Transport{hangs}, Access{}, Disk{}, nil); !errors.Is(err, why) {
		t.Error(err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	raw := content()
	r := must(Open(ctx, []Transport{way("works", &memory{raw: raw})}, Access{}, Disk{}, nil))(t)
	cancel(why)
	reads(t, r, raw)
	must(0, r.Close())(t)
}

// Extents that are out of order are no extents.
func TestExtentsThatCannotBeMeantAreNotBelieved(t *testing.T) {
	raw := content()
	bad := way("bad", nil)
	bad.Open = func(context.Context, Access, Disk) (disk.Remote, error) { return lying{&memory{raw: raw}}, nil }
	var l told
	r := must(Open(t.Context(), []Transport{bad, way("good", &memory{raw: raw})}, Access{}, Disk{}, l.tell))(t)
	list := must(r.Extents(t.Context(), 0, 1024))(t)
	if len(list) != 1 || list[0] != (disk.Allocation{Length: 1024}) {
		t.Errorf("Extents = %v", list)
	}
	must(0, r.Close())(t)
	l.want(t, "0 bad true <nil>", "0 bad false an extent of 1024 bytes at 512 was told, where 0 to 1024 was asked for", "0 good true <nil>")
}

type lying struct{ *memory }

func (l lying) Extents(_ context.Context, off, n int64) ([]disk.Allocation, error) {
	return []disk.Allocation{{Offset: off + 512, Length: n, Zero: true}}, nil
}

// The real ones: https that fails for good in the middle of a disk is left for nfc, and
// nfc that breaks before it is whole for https.
func TestHTTPSAndNFCStandInForOneAnother(t *testing.T) {
	quick(t)
	s := newServer(t)
	raw := content()
	d := s.exported(raw)
	flat := s.flat("ds", "web", "web", raw)
	d.Files, d.Datacenter = flat.Files, flat.Datacenter
	var l told
	r := must(Open(t.Context(), []Transport{https, nfc}, s.access(), d, l.tell))(t)
	half := make([]byte, 3<<20)
	must(0, r.Read(t.Context(), half, 0))(t)
	s.instead(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/folder/") {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	rest := make([]byte, len(raw)-len(half))
	must(0, r.Read(t.Context(), rest, int64(len(half))))(t)
	must(0, r.Close())(t)
	if !bytes.Equal(append(half, rest...), raw) {
		t.Error("the disk holds other bytes")
	}
	l.want(t, "2000 https true <nil>", "2000 https false [ds] web/web-flat.vmdk: the user may not read it: "+s.Listener.Addr().String()+" answers 403 Forbidden", "2000 nfc true <nil>")
	s.instead(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/nfc/") {
			s.sends(len(s.stream)/2)(w, r)
		}
		return false
	})
	d.UUID = "another"
	r = must(Open(t.Context(), Transports(), s.access(), d, nil))(t)
	reads(t, r, raw)
	must(0, r.Close())(t)
}

// What comes from the server is counted: of an export the stream, once, and not what is read
// of the file in which it is kept; of others what is read of them.
func TestWhatComesFromTheServerIsCounted(t *testing.T) {
	quick(t)
	s := newServer(t)
	raw := content()
	stream := int64(len(streamOf(t, raw)))
	for name, c := range map[string]struct {
		list []Transport
		disk Disk
		want int64
	}{
		"an export":           {[]Transport{nfc}, s.exported(raw), stream},
		"files":               {[]Transport{https}, s.flat("ds 1", "web", "web", raw), 2 * int64(len(raw))},
		"what cannot be read": {[]Transport{{Name: "frail", Open: func(context.Context, Access, Disk) (disk.Remote, error) { return broken(raw), nil }}, nfc}, s.exported(raw), stream},
	} {
		var came atomic.Int64
		c.disk.Came = func(n int64) { came.Add(n) }
		r := must(Open(t.Context(), c.list, s.access(), c.disk, nil))(t)
		for range 2 {
			reads(t, r, raw)
		}
		must(0, r.Close())(t)
		if got := came.Load(); got != c.want {
			t.Errorf("%s: %d bytes came, want %d", name, got, c.want)
		}
	}
}
