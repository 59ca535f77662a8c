package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// unstream is a disk of so many bytes as a stream brings it.
func unstream(from io.Reader, size int64) ([]byte, error) {
	raw := make([]byte, size)
	err := ReadStream(from, size, func(grain []byte, off int64) error {
		copy(raw[off:], grain)
		return nil
	})
	return raw, err
}

func TestAStreamIsReadAsItArrives(t *testing.T) {
	for _, sectors := range []int{1, 9, 128, 129, 2048, 2048 + 77, 200000} {
		raw := pattern(sectors)
		data := stream(t, int64(sectors), grainsOf(raw, 64<<10))
		for name, from := range map[string]io.Reader{
			"at once": bytes.NewReader(data), "in halves": iotest.HalfReader(bytes.NewReader(data)),
			"with padding behind": io.MultiReader(bytes.NewReader(data), bytes.NewReader(make([]byte, 7777))),
		} {
			got, err := unstream(from, int64(len(raw)))
			if err != nil {
				t.Errorf("%d sectors %s: %v", sectors, name, err)
			}
			differ(t, name, got, raw)
		}
	}
}

// Whatever is missing, a part of a stream is never taken for all of it.
func TestAStreamThatEndsEarlyIsNotTakenForWhole(t *testing.T) {
	raw := pattern(2048)
	data := stream(t, 2048, grainsOf(raw, 64<<10))
	for n := range data {
		if n%97 > 0 && n < len(data)-600 {
			continue
		}
		if _, err := unstream(bytes.NewReader(data[:n]), int64(len(raw))); !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d bytes of %d: %v", n, len(data), err)
		}
	}
	broken := errors.New("the connection was reset")
	if _, err := unstream(io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken)), int64(len(raw))); !errors.Is(err, broken) {
		t.Errorf("a connection that breaks: %v", err)
	}
	full := errors.New("the storage is full")
	if err := ReadStream(bytes.NewReader(data), int64(len(raw)), func([]byte, int64) error { return full }); !errors.Is(err, full) {
		t.Errorf("a grain that cannot be put: %v", err)
	}
}

func TestAStreamThatCannotBeMeantIsRefused(t *testing.T) {
	raw := pattern(2048)
	data := stream(t, 2048, grainsOf(raw, 64<<10))
	first := int(binary.LittleEndian.Uint64(data[64:])) * sectorSize
	second := first + int(pieces(12+int64(binary.LittleEndian.Uint32(data[first+8:])), sectorSize))*sectorSize
	put32 := func(d []byte, at int, v uint32) { binary.LittleEndian.PutUint32(d[at:], v) }
	put64 := func(d []byte, at int, v uint64) { binary.LittleEndian.PutUint64(d[at:], v) }
	end := len(data)
	for name, c := range map[string]struct {
		spoil func(d []byte) []byte
		is    error
		says  string
	}{
		"no VMDK":               {func(d []byte) []byte { d[0] = 'X'; return d }, ErrNotADisk, "begins with"},
		"of another disk":       {func(d []byte) []byte { put64(d, 12, 4096); return d }, ErrNotADisk, "a disk of 2097152 bytes, and this one has 1048576"},
		"not compressed":        {func(d []byte) []byte { d[77] = 0; return d }, ErrNotADisk, "it is no stream"},
		"an overhead too large": {func(d []byte) []byte { put64(d, 64, 1<<40); return d }, ErrNotADisk, "an overhead of"},
		"an overhead of none":   {func(d []byte) []byte { put64(d, 64, 0); return d }, ErrNotADisk, "an overhead of 0"},
		"a damaged grain":       {func(d []byte) []byte { d[first+20] ^= 0xff; return d }, ErrDamaged, "the grain of sector 0"},
		"a grain too large":     {func(d []byte) []byte { put32(d, first+8, 1<<30); return d }, ErrDamaged, "a grain of 1073741824 bytes"},
		"a grain behind":        {func(d []byte) []byte { put64(d, first, 2048); return d }, ErrDamaged, "for the sector 2048"},
		"a grain far behind":    {func(d []byte) []byte { put64(d, first, 1<<63); return d }, ErrDamaged, "for the sector 9223372036854775808"},
		"a grain in between":    {func(d []byte) []byte { put64(d, first, 64); return d }, ErrDamaged, "for the sector 64"},
		"a grain twice":         {func(d []byte) []byte { put64(d, second, 0); return d }, ErrDamaged, "two grains for the sector 0"},
		"an odd marker":         {func(d []byte) []byte { put32(d, end-sectorSize+12, 9); return d }, ErrDamaged, "of the unknown kind 9"},
		"no footer":             {func(d []byte) []byte { return append(d[:end-3*sectorSize], d[end-sectorSize:]...) }, ErrTruncated, "its footer is missing"},
		"another footer":        {func(d []byte) []byte { put64(d, end-2*sectorSize+12, 9); return d }, ErrDamaged, "a header and a footer that differ"},
		"a footer of something": {func(d []byte) []byte { d[end-2*sectorSize] = 0; return d }, ErrDamaged, "no header in its footer"},
		"a footer of much":      {func(d []byte) []byte { put64(d, end-3*sectorSize, 2); return d }, ErrDamaged, "a footer of 2 sectors"},
		"something behind":      {func(d []byte) []byte { return append(d, "more"...) }, ErrDamaged, "something behind its end"},
		"zeroes without end":    {func(d []byte) []byte { return append(d, make([]byte, 1<<20)...) }, ErrDamaged, "something behind its end"},
		"tables without end": {func(d []byte) []byte {
			return append(d[:first], bytes.Repeat(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 499)...), 100)...)
		}, ErrDamaged, "5 tables"},
		"a table of much": {func(d []byte) []byte { put64(d, first, 1<<60); put32(d, first+8, 0); put32(d, first+12, 1); return d }, ErrDamaged, "the last of 1152921504606846976 sectors"},
	} {
		_, err := unstream(bytes.NewReader(c.spoil(bytes.Clone(data))), int64(len(raw)))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v and %q", name, err, c.is, c.says)
		}
	}
}

// FuzzStream reads streams of strangers': nothing is put outside of the disk or twice,
// and the work has the stream's length for a bound.
func FuzzStream(f *testing.F) {
	raw := pattern(300)
	f.Add(stream(f, 300, grainsOf(raw, 64<<10)), int64(len(raw)))
	f.Add(stream(f, 9, nil), int64(9*sectorSize))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		size = min(max(size, 1), 1<<30)
		put := int64(0)
		err := ReadStream(bytes.NewReader(data), size, func(grain []byte, off int64) error {
			if off < 0 || off+int64(len(grain)) > size {
				t.Fatalf("%d bytes are put at %d of %d", len(grain), off, size)
			}
			put += int64(len(grain))
			return nil
		})
		if put > size {
			t.Fatalf("%d bytes of a disk of %d are put (%v)", put, size, err)
		}
	})
}
