package initrd

import (
	"errors"
	"fmt"
)

// xzStream returns the size of the xz stream that data starts with. It fails
// when a block wants a larger dictionary than limit bytes or has another filter
// than LZMA2; the kernel's own filters for machine code are for kernels.
//
// Source: the .xz file format 1.1.0, sections 2 and 5.3.1; LZMA2's chunk headers
// as in xz-embedded, xz_dec_lzma2.c.
func xzStream(data []byte, limit int64) (int, error) {
	c := &cursor{data: data}
	head := c.take(12)
	if c.err != nil {
		return 0, c.err
	}
	check := []int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[head[7]&15]
	for c.err == nil {
		size := c.byte()
		if size == 0 {
			break
		}
		c.xzBlock(int(size), check, limit)
	}
	c.xzIndex()
	c.take(12)
	return c.off, c.err
}

func (c *cursor) xzBlock(size, check int, limit int64) {
	head := cursor{data: c.take(size*4 + 3)}
	if c.err != nil {
		return
	}
	if c.err = head.xzFilters(limit); c.err != nil {
		return
	}
	start := c.off
	for c.err == nil && c.lzma2Chunk() {
	}
	c.take((4 - (c.off-start)%4) % 4)
	c.take(check)
}

// xzFilters reads a block's header behind its size.
func (c *cursor) xzFilters(limit int64) error {
	flags := c.byte()
	if flags&0x40 != 0 {
		c.varint()
	}
	if flags&0x80 != 0 {
		c.varint()
	}
	id, size := c.varint(), c.varint()
	bits := c.byte()
	switch {
	case c.err != nil:
		return c.err
	case flags&3 != 0 || id != 0x21 || size != 1:
		return errors.New("xz filter other than LZMA2")
	case bits > 40:
		return errors.New("xz dictionary of an invalid size")
	case dictionary(bits) > limit:
		return fmt.Errorf("xz dictionary of %d bytes", dictionary(bits))
	}
	return nil
}

// dictionary decodes the size in LZMA2's properties: a mantissa of two bits and
// an exponent; 40 is 4 GiB.
func dictionary(bits byte) int64 {
	return int64(2|bits&1) << (bits/2 + 11)
}

// lzma2Chunk skips a chunk and reports whether another follows.
func (c *cursor) lzma2Chunk() bool {
	control := c.byte()
	if control == 0 || c.err != nil {
		return false
	}
	if control < 0x80 {
		if control > 2 {
			c.err = errors.New("LZMA2 chunk of an unknown kind")
			return false
		}
		c.take(c.be16() + 1)
		return true
	}
	c.be16()
	packed := c.be16() + 1
	if control >= 0xc0 {
		c.take(1)
	}
	c.take(packed)
	return true
}

func (c *cursor) be16() int {
	high := c.byte()
	return int(high)<<8 | int(c.byte())
}

// xzIndex skips the index behind its first byte.
func (c *cursor) xzIndex() {
	start := c.off - 1
	for records := c.varint(); records > 0 && c.err == nil; records-- {
		c.varint()
		c.varint()
	}
	c.take((4 - (c.off-start)%4) % 4)
	c.take(4)
}
