package transport

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"hyper2kvm/pipeline/disk"
)

// sparse writes a disk into a file whose zeroes are holes.
func sparse(t testing.TB, file string, all []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(all))); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(all); at += 64 << 10 {
		if part := all[at:min(at+64<<10, len(all))]; !allZero(part) {
			if _, err := f.WriteAt(part, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func allZero(p []byte) bool { return len(bytes.Trim(p, "\x00")) == 0 }

// readsAs checks that a disk has a content: whole, in odd pieces, by many at a time, and
// that its extents go over all of it and lose nothing of it.
func readsAs(t testing.TB, r disk.Remote, want []byte) {
	t.Helper()
	if r.Size() != int64(len(want)) {
		t.Fatalf("Size = %d, want %d", r.Size(), len(want))
	}
	var all sync.WaitGroup
	got := make([]byte, len(want))
	const piece = 777_777
	for off := 0; off < len(want); off += piece {
		all.Go(func() {
			if err := r.Read(t.Context(), got[off:min(off+piece, len(want))], int64(off)); err != nil {
				t.Errorf("Read at %d: %v", off, err)
			}
		})
	}
	all.Wait()
	if !bytes.Equal(got, want) {
		t.Error("what was read is not what is on the disk")
	}
	for off := int64(0); off < r.Size(); {
		list, err := r.Extents(t.Context(), off, r.Size()-off)
		if err != nil || len(list) == 0 {
			t.Fatalf("Extents at %d = %v, %v", off, list, err)
		}
		for _, e := range list {
			if e.Offset != off || e.Length <= 0 || e.Length > r.Size()-off {
				t.Fatalf("Extents has %+v where %d is next", e, off)
			}
			if e.Zero && !allZero(want[off:off+e.Length]) {
				t.Errorf("Extents says %+v is zero", e)
			}
			off += e.Length
		}
	}
	if list, err := r.Extents(t.Context(), 1000, 1); err != nil || len(list) != 1 || list[0].Offset != 1000 || list[0].Length != 1 {
		t.Errorf("Extents of one byte = %v, %v", list, err)
	}
	for _, off := range []int64{-1, r.Size() - 1, 1 << 62} {
		if err := r.Read(t.Context(), make([]byte, 2), off); err == nil {
			t.Errorf("Read at %d is outside, and was done", off)
		}
	}
}

// holes counts what of a disk is zero in pieces of 64 KiB, which the library has.
func holes(all []byte) (n int64) {
	for at := 0; at+64<<10 <= len(all); at += 64 << 10 {
		if allZero(all[at : at+64<<10]) {
			n += 64 << 10
		}
	}
	return n
}

// zeroes counts what a disk's extents say is zero.
func zeroes(t testing.TB, r disk.Remote) (n int64) {
	t.Helper()
	for off := int64(0); off < r.Size(); {
		list, err := r.Extents(t.Context(), off, r.Size()-off)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if off += e.Length; e.Zero {
				n += e.Length
			}
		}
	}
	return n
}
