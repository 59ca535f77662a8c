package transport

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
)

// subject is a transport and a disk that it is to read.
type subject struct {
	transport Transport
	access    Access
	disk      Disk
	want      []byte
	// remove takes the disk away from the server. Nil: what was opened stays, since all
	// of it is here.
	remove func()
}

// conform is what every transport must do.
func conform(t *testing.T, prepare func(t *testing.T) subject) {
	t.Run("bytes", func(t *testing.T) { conformBytes(t, prepare(t)) })
	t.Run("at once", func(t *testing.T) { conformAtOnce(t, prepare(t)) })
	t.Run("extents", func(t *testing.T) { conformExtents(t, prepare(t)) })
	t.Run("close", func(t *testing.T) { conformClose(t, prepare(t)) })
	t.Run("cancelled", func(t *testing.T) { conformCancelled(t, prepare(t)) })
	t.Run("gone", func(t *testing.T) { conformGone(t, prepare(t)) })
}

func (s subject) open(t *testing.T) disk.Remote {
	t.Helper()
	r, err := s.transport.Open(t.Context(), s.access, s.disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Any place and length reads the source's bytes, and nothing is read beyond its end.
func conformBytes(t *testing.T, s subject) {
	r := s.open(t)
	if r.Size() != int64(len(s.want)) {
		t.Fatalf("its size is %d, want %d", r.Size(), len(s.want))
	}
	reads(t, r, s.want)
	for _, c := range [][2]int{{0, 1}, {1, 511}, {511, 2}, {513, 65536}, {65535, 2}, {1<<20 - 7, 1<<20 + 14}, {len(s.want) - 1, 1}, {len(s.want) - 513, 513}, {77, 0}, {len(s.want), 0}} {
		p := bytes.Repeat([]byte{0xee}, c[1])
		if err := r.Read(t.Context(), p, int64(c[0])); err != nil || !bytes.Equal(p, s.want[c[0]:c[0]+c[1]]) {
			t.Errorf("%d bytes at %d: %v, or others", c[1], c[0], err)
		}
	}
	for _, c := range [][2]int64{{r.Size(), 1}, {r.Size() - 1, 2}, {-1, 1}, {1 << 62, 1 << 10}} {
		if err := r.Read(t.Context(), make([]byte, c[1]), c[0]); err == nil {
			t.Errorf("%d bytes at %d of %d are read", c[1], c[0], r.Size())
		}
	}
	reads(t, r, s.want)
}

func conformAtOnce(t *testing.T, s subject) {
	r := s.open(t)
	var group sync.WaitGroup
	for i := range uint64(8) {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, i))
			for range 20 {
				off := random.IntN(len(s.want))
				p := make([]byte, random.IntN(min(200<<10, len(s.want)-off)+1))
				if err := r.Read(t.Context(), p, int64(off)); err != nil || !bytes.Equal(p, s.want[off:off+len(p)]) {
					t.Errorf("%d bytes at %d: %v, or others", len(p), off, err)
				}
			}
		})
	}
	group.Wait()
}

func conformExtents(t *testing.T, s subject) {
	r := s.open(t)
	for _, from := range []int64{0, 1, 65535, 3<<20 + 5} {
		for off := from; off < r.Size(); {
			n := min(r.Size()-off, 2<<20+77)
			list, err := r.Extents(t.Context(), off, n)
			if err == nil {
				err = contiguous(list, off, n)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range list {
				if there := s.want[a.Offset : a.Offset+a.Length]; a.Zero && bytes.Count(there, []byte{0}) != len(there) {
					t.Fatalf("%d bytes at %d are said to be zeroes", a.Length, a.Offset)
				}
				off = a.Offset + a.Length
			}
		}
	}
	if list, err := r.Extents(t.Context(), r.Size()-1, 2); err == nil {
		t.Errorf("extents beyond the end are %v", list)
	}
}

// openFiles is how many files the process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// A disk can be closed again and again, and leaves neither goroutines nor files.
func conformClose(t *testing.T, s subject) {
	cycle := func() {
		r, err := s.transport.Open(t.Context(), s.access, s.disk)
		if err != nil {
			t.Fatal(err)
		}
		reads(t, r, s.want)
		for range 3 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	cycle()
	time.Sleep(50 * time.Millisecond) // the server's ends of connections
	routines, files := runtime.NumGoroutine(), openFiles(t)
	for range 5 {
		cycle()
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, f := runtime.NumGoroutine(), openFiles(t)
		if r <= routines+2 && f <= files+2 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and %d files, before there were %d and %d", r, f, routines, files)
		}
	}
}

func conformCancelled(t *testing.T, s subject) {
	r, why := s.open(t), errors.New("not wanted any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	began := time.Now()
	if err := r.Read(ctx, make([]byte, 4096), 0); !errors.Is(err, why) {
		t.Errorf("Read = %v, want %v", err, why)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := s.transport.Open(ctx, s.access, s.disk); !errors.Is(err, why) {
		t.Errorf("Open = %v, want %v", err, why)
	}
}

func conformGone(t *testing.T, s subject) {
	r := s.open(t)
	reads(t, r, s.want)
	if s.remove == nil {
		return
	}
	s.remove()
	if err := r.Read(t.Context(), make([]byte, 4096), 8192); !errors.Is(err, ErrGone) {
		t.Errorf("Read = %v, want %v", err, ErrGone)
	}
}

func TestHTTPSConforms(t *testing.T) {
	quick(t)
	conform(t, func(t *testing.T) subject {
		s := newServer(t)
		raw := content()
		return subject{https, s.access(), s.flat("ds 1", "web", "web", raw), raw, func() { must(0, os.RemoveAll(s.root))(t) }}
	})
}

func TestNFCConforms(t *testing.T) {
	quick(t)
	conform(t, func(t *testing.T) subject {
		s := newServer(t)
		raw := content()
		d := s.exported(raw)
		d.Snapshot = "" // so that each one is read from the server
		return subject{nfc, s.access(), d, raw, nil}
	})
}

// The carrier is a transport itself.
func TestTheCarrierConforms(t *testing.T) {
	quick(t)
	conform(t, func(t *testing.T) subject {
		s := newServer(t)
		raw := content()
		carried := Transport{Open: func(ctx context.Context, a Access, d Disk) (disk.Remote, error) {
			return Open(ctx, Transports(), a, d, func(Event) {})
		}}
		return subject{carried, s.access(), s.flat("ds 1", "web", "web", raw), raw, func() { must(0, os.RemoveAll(s.root))(t) }}
	})
}
