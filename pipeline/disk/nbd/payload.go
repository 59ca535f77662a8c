package nbd

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"
)

// data takes bytes that are somewhere in a read.
func (c *Client) data(r *request, n int64) error {
	from, err := c.claim(r, n, 8)
	if err != nil {
		return err
	}
	return c.fill(r, from, n)
}

// hole zeroes bytes that the server did not send.
func (c *Client) hole(r *request) error {
	head, err := c.peek(12)
	if err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(head[8:]))
	from, err := c.claim(r, n, 12)
	if err != nil {
		return err
	}
	if into := c.borrow(r); into != nil {
		clear(into[from : from+n])
		c.release(r)
	}
	return nil
}

// claim finds the place of n bytes in a read, and that nothing has come for it.
// It takes the chunk's head, which begins with the offset in the export.
func (c *Client) claim(r *request, n int64, head int) (int64, error) {
	b, err := c.peek(head)
	if err != nil {
		return 0, err
	}
	off := binary.BigEndian.Uint64(b)
	c.in.Discard(head)
	from := off - uint64(r.off) // wraps around when before it
	if n <= 0 || from >= uint64(r.length) || n > r.length-int64(from) {
		return 0, broken("a chunk of %d bytes at %d in a read of %d at %d", n, off, r.length, r.off)
	}
	if !r.filled.add(int64(from), int64(from)+n) {
		return 0, broken("a chunk of %d bytes at %d comes twice, or in too many pieces", n, off)
	}
	return int64(from), nil
}

// fill reads n bytes to their place, or past an orphan's.
func (c *Client) fill(r *request, from, n int64) error {
	into := c.borrow(r)
	if into == nil {
		return c.skip(n)
	}
	got, err := io.ReadFull(c.in, into[from:from+n])
	orphan := c.release(r)
	if orphan && errors.Is(err, os.ErrDeadlineExceeded) {
		return c.skip(n - int64(got))
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// borrow is the buffer of a request while somebody waits for it.
func (c *Client) borrow(r *request) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.orphan {
		return nil
	}
	r.busy = true
	return r.into
}

// release gives a buffer back, and tells whether its request was given up
// meanwhile; the deadline that woke the reader is then lifted.
func (c *Client) release(r *request) (orphan bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.busy = false
	if r.orphan {
		close(r.released)
		_ = c.raw.SetReadDeadline(time.Time{}) // a closed connection fails the next read
	}
	return r.orphan
}
