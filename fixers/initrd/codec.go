package initrd

import (
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

const (
	maxDictionary = 64 << 20  // xz -9
	maxWindow     = 128 << 20 // zstd --long
)

// codec is a compression that the kernel detects by its first two bytes
// (lib/decompress.c).
type codec struct {
	name   string
	magic  string
	closed bool // its end is known without what is behind it
	open   func(data []byte) (*packed, error)
}

var codecs = []codec{
	{"gzip", "\x1f\x8b", true, openGzip},
	{"bzip2", "BZ", false, openBzip2},
	{"lzma", "\x5d\x00", false, openLzma},
	{"xz", "\xfd7", true, openXZ},
	{"lzo", "\x89L", false, openLzop},
	{"lz4", "\x02\x21", false, openLZ4},
	{"zstd", "\x28\xb5", true, openZstd},
}

func codecOf(data []byte) (codec, bool) {
	for _, c := range codecs {
		if bytes.HasPrefix(data, []byte(c.magic)) {
			return c, true
		}
	}
	return codec{}, false
}

// packed is a compressed member being read. What is behind it is not touched:
// consumed tells, after io.EOF, how many bytes it takes.
type packed struct {
	io.Reader
	consumed func() int
	close    func()
}

func newPacked(r io.Reader, consumed func() int) *packed {
	return &packed{Reader: r, consumed: consumed, close: func() {}}
}

func newBytes(data []byte) *bytes.Reader { return bytes.NewReader(data) }

// guarded turns a panic of a decompressor into an error: the data is hostile.
type guarded struct{ io.Reader }

func (g guarded) Read(p []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, fmt.Errorf("decompressor: %v", r)
		}
	}()
	return g.Reader.Read(p)
}

func openGzip(data []byte) (*packed, error) {
	src := newBytes(data)
	r, err := gzip.NewReader(src)
	if err != nil {
		return nil, err
	}
	r.Multistream(false)
	return newPacked(r, func() int { return len(data) - src.Len() }), nil
}

// openLzma reads the format of lzma-utils, whose dictionary is bounded here
// because the header may ask for 4 GiB.
func openLzma(data []byte) (*packed, error) {
	src := newBytes(data)
	r, err := lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(src)
	if err != nil {
		return nil, err
	}
	return newPacked(r, func() int { return len(data) - src.Len() }), nil
}

// openXZ reads one stream. Where it ends is worked out first: the library reads
// on behind it, and allocates whatever dictionary the stream asks for.
func openXZ(data []byte) (*packed, error) {
	size, err := xzStream(data, maxDictionary)
	if err != nil {
		return nil, err
	}
	r, err := xz.ReaderConfig{SingleStream: true, DictCap: lzma.MinDictCap}.NewReader(newBytes(data[:size]))
	if err != nil {
		return nil, err
	}
	return newPacked(r, func() int { return size }), nil
}

func openZstd(data []byte) (*packed, error) {
	size, err := zstdFrame(data)
	if err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(newBytes(data[:size]), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return &packed{Reader: r, consumed: func() int { return size }, close: r.Close}, nil
}

// zstdFrame returns the size of the frame that data starts with (RFC 8878, 3.1.1).
func zstdFrame(data []byte) (int, error) {
	c := cursor{data: data}
	c.take(4)
	descriptor := c.byte()
	single := descriptor >> 5 & 1
	c.take(int(1 - single))
	c.take([]int{0, 1, 2, 4}[descriptor&3])
	c.take([]int{int(single), 2, 4, 8}[descriptor>>6])
	for last := false; !last && c.err == nil; {
		head := c.take(3)
		if c.err != nil {
			break
		}
		v := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		last = v&1 == 1
		size := v >> 3
		if v>>1&3 == 1 { // one byte, repeated
			size = 1
		}
		c.take(size)
	}
	if descriptor>>2&1 == 1 {
		c.take(4)
	}
	return c.off, c.err
}

// openBzip2 reads a stream and those right behind it.
func openBzip2(data []byte) (*packed, error) {
	b := &bzip2Member{src: &byteSource{Reader: newBytes(data)}}
	b.r = bzip2.NewReader(b.src)
	return newPacked(b, func() int { return len(data) - b.src.Len() }), nil
}

// bzip2Member ends where the library finds something else than a further stream,
// for which it has looked at two bytes, or at the only one left.
type bzip2Member struct {
	src *byteSource
	r   io.Reader
}

func (b *bzip2Member) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	structural, ok := errors.AsType[bzip2.StructuralError](err)
	if !ok || !strings.Contains(string(structural), "continuation") {
		return n, err
	}
	back := int64(2)
	if b.src.ended {
		back = 1
	}
	if _, err := b.src.Seek(-back, io.SeekCurrent); err != nil {
		return n, err
	}
	return n, io.EOF
}

// byteSource remembers that a byte was asked for behind the end.
type byteSource struct {
	*bytes.Reader
	ended bool
}

func (s *byteSource) ReadByte() (byte, error) {
	c, err := s.Reader.ReadByte()
	s.ended = s.ended || err != nil
	return c, err
}

// cursor reads a buffer field by field; its first error stays.
type cursor struct {
	data []byte
	off  int
	err  error
}

func (c *cursor) take(n int) []byte {
	if c.err == nil && (n < 0 || n > len(c.data)-c.off) {
		c.err = io.ErrUnexpectedEOF
	}
	if c.err != nil {
		return nil
	}
	c.off += n
	return c.data[c.off-n : c.off]
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

// varint is a number of xz's container: seven bits a byte, lowest first.
func (c *cursor) varint() uint64 {
	var v uint64
	for shift := 0; shift < 63; shift += 7 {
		b := c.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	c.err = errors.New("number too long")
	return 0
}
