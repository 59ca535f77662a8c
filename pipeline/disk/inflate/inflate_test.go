package inflate

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"testing"
)

// samples are data of which each makes another kind of stream.
func samples() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 70000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	skewed := make([]byte, 65536) // long codes
	for i := range skewed {
		skewed[i] = byte(random.ExpFloat64() * 12)
	}
	text := []byte{}
	for i := range 3000 {
		text = fmt.Appendf(text, "line %d of %x\n", i, random.Uint32()>>(i%20))
	}
	short := bytes.Repeat([]byte("abc"), 10000)
	return map[string][]byte{"nothing": nil, "one byte": {7}, "zeroes": make([]byte, 65536), "noise": noise, "skewed": skewed, "text": text, "repeated": short,
		"far back": append(append(bytes.Clone(noise[:32000]), make([]byte, 700)...), noise[:32000]...)}
}

func compress(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(d *Decoder, stream []byte, most int) ([]byte, error) {
	copy(d.Input(len(stream)), stream)
	return d.Zlib(most)
}

func TestStreamsAreWhatWasCompressed(t *testing.T) {
	var d Decoder
	for name, data := range samples() {
		for level := zlib.HuffmanOnly; level <= zlib.BestCompression; level++ {
			stream := compress(t, data, level)
			got, err := decode(&d, stream, len(data))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, level %d: %d bytes of %d, %v", name, level, len(got), len(data), err)
			}
			if _, err := decode(&d, stream, len(data)-1); len(data) > 0 && !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, level %d: more than there is room for: %v", name, level, err)
			}
		}
	}
}

func TestDamageIsNoticed(t *testing.T) {
	var d Decoder
	data := samples()["text"][:5000]
	stream := compress(t, data, 6)
	for i := range stream {
		if got, err := decode(&d, stream[:i], 1<<20); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %d bytes, %v", i, len(got), err)
		}
	}
	for i := range len(stream) * 8 {
		other := bytes.Clone(stream)
		other[i/8] ^= 1 << (i % 8)
		if got, err := decode(&d, other, 1<<20); !errors.Is(err, ErrDamaged) && !bytes.Equal(got, data) { // of some bits nothing depends
			t.Fatalf("bit %d: %d other bytes, %v", i, len(got), err)
		}
	}
}

// TestSumsAreThoseOfGo has every length of what is left over, the largest sums, and
// more than is summed up before the sums are divided.
func TestSumsAreThoseOfGo(t *testing.T) {
	most := bytes.Repeat([]byte{255}, summed+2*round)
	mixed := append(samples()["noise"], samples()["text"]...)
	for _, data := range [][]byte{most, mixed} {
		for n := range 3 * round {
			for _, p := range [][]byte{data[:n], data[n:]} {
				if got, want := sum(p), adler32.Checksum(p); got != want {
					t.Fatalf("the sum of %d bytes is %08x, want %08x", len(p), got, want)
				}
			}
		}
	}
}

// FuzzZlib compares with Go's own.
func FuzzZlib(f *testing.F) {
	for _, data := range samples() {
		for _, level := range []int{0, 1, 9, zlib.HuffmanOnly} {
			f.Add(compress(f, data[:min(len(data), 4000)], level), 4000)
		}
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, stream []byte, most int) {
		most = max(0, min(most, 1<<16))
		got, err := decode(&d, stream, most)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		want, failed := theirs(stream, most)
		if (err == nil) != (failed == nil) {
			t.Fatalf("ours: %v; Go's: %v", err, failed)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, Go's %d", len(got), len(want))
		}
	})
}

func theirs(stream []byte, most int) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(stream))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if len(data) > most {
		return nil, ErrDamaged
	}
	return data, err
}

func BenchmarkZlib(b *testing.B) {
	data := samples()["text"][:65536]
	stream := compress(b, data, 6)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		var d Decoder
		for b.Loop() {
			if _, err := decode(&d, stream, len(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compress/zlib", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := theirs(stream, len(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
