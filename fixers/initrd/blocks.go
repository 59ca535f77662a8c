package initrd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/anchore/go-lzo"
	"github.com/pierrec/lz4/v4"
)

// blocks reads a format of blocks that are compressed one by one.
type blocks struct {
	cursor
	next func(*blocks) ([]byte, error) // io.EOF behind the last one
	rest []byte
	out  []byte // reused for each block
}

func (b *blocks) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		var err error
		if b.rest, err = b.next(b); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

const (
	lz4Magic = "\x02\x21\x4c\x18"
	lz4Block = 8 << 20 // of the legacy frame, fixed
)

// openLZ4 reads the legacy frame, the only one that the kernel knows. It has no
// end mark: it lasts to the end of the initrd, or, since Linux 5.8, to a block
// size of zero. A further frame's magic may stand where a size is expected.
//
// Source: lib/decompress_unlz4.c; LZ4 frame format, "Legacy frame".
func openLZ4(data []byte) (*packed, error) {
	if !bytes.HasPrefix(data, []byte(lz4Magic)) {
		return nil, errors.New("lz4 frame that is not the legacy one")
	}
	b := &blocks{cursor: cursor{data: data, off: 4}, next: nextLZ4}
	return newPacked(b, func() int { return b.off }), nil
}

func nextLZ4(b *blocks) ([]byte, error) {
	for bytes.HasPrefix(b.data[b.off:], []byte(lz4Magic)) {
		b.off += 4
	}
	if len(b.data)-b.off < 4 {
		return nil, lz4End(b.data[b.off:])
	}
	size := int(binary.LittleEndian.Uint32(b.data[b.off:]))
	if size == 0 {
		return nil, io.EOF
	}
	b.off += 4
	if size > lz4.CompressBlockBound(lz4Block) {
		return nil, fmt.Errorf("lz4 block of %d bytes", size)
	}
	src := b.take(size)
	if b.err != nil {
		return nil, b.err
	}
	if b.out == nil {
		b.out = make([]byte, lz4Block)
	}
	n, err := lz4.UncompressBlock(src, b.out)
	if err != nil {
		return nil, err
	}
	return b.out[:n], nil
}

func lz4End(rest []byte) error {
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

// Flags of an lzop header (lzop 1.04, conf.h).
const (
	lzopMagic        = "\x89LZO\x00\r\n\x1a\n"
	lzopSumOut       = 0x101 // one of two sums of the block as it was
	lzopSumIn        = 0x202 // and of the block as it is stored
	lzopExtra        = 0x40
	lzopFilter       = 0x800
	lzopLevelVersion = 0x0940
	lzopBlock        = 256 << 10 // the kernel's buffer
)

// openLzop reads lzop's container (lib/decompress_unlzo.c).
func openLzop(data []byte) (*packed, error) {
	if !bytes.HasPrefix(data, []byte(lzopMagic)) {
		return nil, errors.New("no lzop header")
	}
	b := &blocks{cursor: cursor{data: data, off: len(lzopMagic)}}
	version := b.be16()
	b.take(2)
	if version >= lzopLevelVersion {
		b.take(2)
	}
	b.take(1)
	if version >= lzopLevelVersion {
		b.take(1)
	}
	flags := b.be32()
	if flags&lzopFilter != 0 {
		b.take(4)
	}
	b.take(8)
	if version >= lzopLevelVersion {
		b.take(4)
	}
	b.take(int(b.byte()))
	b.take(4)
	if flags&lzopExtra != 0 {
		return nil, errors.New("lzop extra field")
	}
	b.next = func(b *blocks) ([]byte, error) { return nextLzop(b, flags) }
	return newPacked(b, func() int { return b.off }), b.err
}

func nextLzop(b *blocks, flags uint32) ([]byte, error) {
	size := int(b.be32())
	if b.err != nil {
		return nil, b.err
	}
	if size == 0 {
		return nil, io.EOF
	}
	stored := int(b.be32())
	if size > lzopBlock || stored > size {
		return nil, fmt.Errorf("lzop block of %d bytes in %d", size, stored)
	}
	if flags&lzopSumOut != 0 {
		b.take(4)
	}
	if flags&lzopSumIn != 0 && stored < size {
		b.take(4)
	}
	src := b.take(stored)
	if b.err != nil || stored == size {
		return src, b.err
	}
	if len(b.out) < size {
		b.out = make([]byte, size)
	}
	n, err := lzo.Decompress(src, b.out[:size])
	if err != nil {
		return nil, err
	}
	return b.out[:n], nil
}

func (c *cursor) be32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
