package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"hyper2kvm/pipeline/proc"
)

// counted counts the bytes that are read of a file: the work that a stranger's
// tables make must not exceed what the file is worth.
type counted struct {
	*bytes.Reader
	read int
}

func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	c.read += len(b)
	return c.Reader.ReadAt(b, at)
}

func FuzzSparse(f *testing.F) {
	raw := pattern(9) // Go shrinks what it finds, which takes minutes for large files
	for _, seed := range [][]byte{
		cowd(9, grainsOf(raw, sectorSize)), sesparse(17, grainsOf(raw, 4096), 2), stream(f, 9, grainsOf(raw, 64<<10)), made(f, "vmdk", raw),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &counted{Reader: bytes.NewReader(data)}
		s, err := readSparse(c, int64(len(data)))
		if err != nil || s == nil || s.nested {
			return
		}
		err = s.whole(t.Context(), c, int64(len(data)))
		if most := 4*len(data) + 64<<10; c.read > most {
			t.Errorf("%d bytes were read of a file of %d (%v)", c.read, len(data), err)
		}
	})
}

// FuzzContent reads sparse extents of strangers' as disks: whatever they claim, what
// is said to be a hole reads as zeroes, it is the same from elsewhere, and nothing else
// comes of it than an error.
func FuzzContent(f *testing.F) {
	raw := pattern(9)
	for _, seed := range [][]byte{
		cowd(9, grainsOf(raw, sectorSize)), sesparse(17, grainsOf(raw, 4096), 2), stream(f, 9, grainsOf(raw, 64<<10)), made(f, "vmdk", raw),
	} {
		f.Add(seed, int64(700), int64(5000))
	}
	path := filepath.Join(f.TempDir(), "a.vmdk")
	f.Fuzz(func(t *testing.T, data []byte, off, n int64) {
		s, err := readSparse(bytes.NewReader(data), int64(len(data)))
		if err != nil || s == nil || s.nested {
			return
		}
		writeFile(t, path, string(data))
		size := s.capacity * sectorSize
		off = min(max(off, 0), size-1)
		n = min(max(n, 1), size-off, 1<<20)
		c := &Chain{Path: path, Format: VMDK, Size: size, links: []link{{path: path, single: true, parts: []part{{Extent: Extent{Sectors: s.capacity}, path: path, sparse: s}}}}}
		d := must(c.Read())(t)
		defer func() { must(0, d.Close())(t) }()
		got := make([]byte, n)
		read := d.Read(got, off)
		gathered := bytes.Repeat([]byte{0xff}, int(n))
		if err := (&elsewhere{Content: d}).Read(t.Context(), gathered, off); (err == nil) != (read == nil) || err == nil && !bytes.Equal(gathered, got) {
			t.Fatalf("read from elsewhere it is another disk (%v, %v)", err, read)
		}
		list, err := d.Extents(off, n)
		if err == nil && len(list) == 0 {
			t.Fatal("no extents")
		}
		for _, a := range list {
			if a.Offset != off || a.Length <= 0 {
				t.Fatalf("the extent %+v at %d", a, off)
			}
			if hole := got[:a.Length]; read == nil && a.Zero && !bytes.Equal(hole, make([]byte, len(hole))) {
				t.Fatalf("the hole %+v holds something", a)
			}
			got, off = got[a.Length:], off+a.Length
		}
	})
}

func FuzzQCOW2(f *testing.F) {
	f.Add(made(f, "qcow2", pattern(9)))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &counted{Reader: bytes.NewReader(data)}
		err := lastCluster(t.Context(), c, int64(len(data)))
		if most := 4*len(data) + 64<<10; c.read > most {
			t.Errorf("%d bytes were read of a file of %d (%v)", c.read, len(data), err)
		}
	})
}

// made is a small disk as qemu-img makes it; nothing where there is none.
func made(f *testing.F, format string, raw []byte) []byte {
	f.Helper()
	if _, err := proc.Look("qemu-img"); err != nil {
		return nil
	}
	data, path := filepath.Join(f.TempDir(), "a.raw"), filepath.Join(f.TempDir(), "a."+format)
	if err := os.WriteFile(data, raw, 0o600); err != nil {
		f.Fatal(err)
	}
	if _, err := proc.Run(f.Context(), "qemu-img", "convert", "-f", "raw", "-O", format, data, path); err != nil {
		f.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return image
}
