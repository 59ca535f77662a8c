package disk

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"hyper2kvm/pipeline/disk/nbd"
)

// far is a remote disk that counts how often each block is read.
type far struct {
	content []byte
	mu      sync.Mutex
	times   map[int64]int
	err     error
}

func newFar(size int) *far {
	f := &far{content: make([]byte, size), times: map[int64]int{}}
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(f.content)
	return f
}

func (f *far) Size() int64 { return int64(len(f.content)) }

func (f *far) Read(_ context.Context, p []byte, off int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	for b := off / nearBlock; b*nearBlock < off+int64(len(p)); b++ {
		f.times[b]++
	}
	copy(p, f.content[off:])
	return nil
}

func (f *far) Extents(_ context.Context, off, n int64) ([]Allocation, error) {
	return []Allocation{{Offset: off, Length: n}}, nil
}

func (f *far) Close() error { return nil }

// most is how often the block was read that was read most.
func (f *far) most() (most int) {
	for _, n := range f.times {
		most = max(most, n)
	}
	return most
}

func amply(t *testing.T) {
	t.Helper()
	was := ampleRoom
	ampleRoom = 0
	t.Cleanup(func() { ampleRoom = was })
}

func TestWhatIsNearIsReadOnce(t *testing.T) {
	amply(t)
	f := newFar(5<<20 + 4711)
	n := Keep(f, t.TempDir())
	defer n.Close()
	var group sync.WaitGroup
	for seed := range uint64(8) {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 300 {
				off := r.Int64N(f.Size())
				p := make([]byte, r.Int64N(min(f.Size()-off, 300<<10))+1)
				if err := n.Read(t.Context(), p, off); err != nil || !bytes.Equal(p, f.content[off:][:len(p)]) {
					t.Errorf("%d bytes at %d: %v", len(p), off, err)
					return
				}
			}
		})
	}
	group.Wait()
	if f.most() != 1 {
		t.Errorf("a block was read %d times", f.most())
	}
	all := make([]byte, f.Size())
	if err := n.Once().Read(t.Context(), all, 0); err != nil || !bytes.Equal(all, f.content) || f.most() != 1 {
		t.Errorf("passed over: %v, a block was read %d times", err, f.most())
	}
}

func TestWhatCannotBeReadIsAskedForAgain(t *testing.T) {
	amply(t)
	f := newFar(1 << 20)
	n := Keep(f, t.TempDir())
	defer n.Close()
	p := make([]byte, 4096)
	f.err = errors.New("the network is down")
	if err := n.Read(t.Context(), p, 0); !errors.Is(err, f.err) {
		t.Errorf("Read = %v, want %v", err, f.err)
	}
	f.err = nil
	if err := n.Read(t.Context(), p, 0); err != nil || !bytes.Equal(p, f.content[:4096]) {
		t.Errorf("then: %v", err)
	}
	if err := n.Read(t.Context(), p, f.Size()-4095); err == nil && !bytes.Equal(p[:4095], f.content[f.Size()-4095:]) {
		t.Error("what lies beyond the end was read")
	}
}

// TestNothingIsKeptWithoutRoom: what a migration writes may not lack it.
func TestNothingIsKeptWithoutRoom(t *testing.T) {
	was := ampleRoom
	ampleRoom = 1 << 60
	defer func() { ampleRoom = was }()
	f := newFar(1 << 20)
	n := Keep(f, t.TempDir())
	p := make([]byte, 4096)
	for range 2 {
		if err := n.Read(t.Context(), p, 0); err != nil || !bytes.Equal(p, f.content[:4096]) {
			t.Fatal(err)
		}
	}
	if f.most() != 2 {
		t.Errorf("it was read %d times", f.most())
	}
}

// TestARemoteDiskIsServedToTheStorage: through its daemon the overlay over it has the
// disk's content, and what was written; the disk beneath is lent.
func TestARemoteDiskIsServedToTheStorage(t *testing.T) {
	need(t, "qemu-img")
	need(t, "qemu-storage-daemon")
	amply(t)
	f := newFar(3 << 20)
	overlay := filepath.Join(t.TempDir(), "o.qcow2")
	if err := CreateOverlay(t.Context(), overlay, f.Size()); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStorage(t.Context(), []Layer{{Overlay: overlay, Backing: FromRemote(f).Export}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	e, err := s.Export(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	client, err := nbd.Dial(t.Context(), nbd.Options{Socket: e.Socket, Export: e.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	got := make([]byte, f.Size())
	if err := client.Read(t.Context(), got, 0); err != nil || !bytes.Equal(got, f.content) {
		t.Errorf("through the daemon it reads otherwise: %v", err)
	}
	p := make([]byte, 100)
	if err := s.Beneath(0).Remote.Read(t.Context(), p, 1<<20); err != nil || !bytes.Equal(p, f.content[1<<20:][:100]) || f.most() != 1 {
		t.Errorf("beneath: %v; a block was read %d times", err, f.most())
	}
}
