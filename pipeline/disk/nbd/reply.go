package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// read takes replies until the connection ends, and ends with it every request:
// nobody else does, so no buffer is written to after its request.
func (c *Client) read() {
	err := c.replies()
	if !errors.Is(err, ErrProtocol) {
		err = lost(err)
	}
	c.fail(err)
	c.mu.Lock()
	pending, err := c.pending, c.err
	c.pending = nil
	c.mu.Unlock()
	for _, r := range pending {
		r.done <- err
	}
	close(c.done)
}

// replies takes replies until there is an error.
func (c *Client) replies() error {
	for {
		if err := c.reply(); err != nil {
			return err
		}
	}
}

// reply takes a simple reply, or a chunk of a structured one.
func (c *Client) reply() error {
	magic, err := c.peek(4)
	if err != nil {
		return err
	}
	switch magic := binary.BigEndian.Uint32(magic); magic {
	case simpleMagic:
		return c.simple()
	case structuredMagic:
		return c.structured()
	default:
		return broken("a reply begins with %#x", magic)
	}
}

// peek is the next n bytes, which are not yet taken.
func (c *Client) peek(n int) ([]byte, error) {
	b, err := c.in.Peek(n)
	if err == io.EOF && len(b) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// skip takes n bytes that are of no interest.
func (c *Client) skip(n int64) error {
	_, err := io.CopyN(io.Discard, c.in, n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// find is the request that a reply is to.
func (c *Client) find(cookie uint64) (*request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.pending[cookie]; r != nil {
		return r, nil
	}
	return nil, broken("a reply to request %d, which waits for none", cookie)
}

// simple takes a simple reply. Source: doc/proto.md, "Simple reply message".
func (c *Client) simple() error {
	header, err := c.peek(simpleSize)
	if err != nil {
		return err
	}
	number, cookie := binary.BigEndian.Uint32(header[4:]), binary.BigEndian.Uint64(header[8:])
	c.in.Discard(simpleSize)
	r, err := c.find(cookie)
	switch {
	case err != nil:
		return err
	case r.begun:
		return broken("a simple reply ends a structured one")
	case number != 0:
		c.answer(cookie, r, c.refused(number, ""))
		return nil
	case r.command == cmdBlockStatus, r.command == cmdRead && c.export.structured:
		return broken("a simple reply to a request that has a structured one")
	case r.command == cmdRead:
		if err := c.fill(r, 0, r.length); err != nil {
			return err
		}
	}
	c.answer(cookie, r, nil)
	return nil
}

// structured takes a chunk of a structured reply, and ends the request with its
// last one. Source: doc/proto.md, "Structured reply chunk message".
func (c *Client) structured() error {
	header, err := c.peek(structuredSize)
	if err != nil {
		return err
	}
	flags, kind := binary.BigEndian.Uint16(header[4:]), binary.BigEndian.Uint16(header[6:])
	cookie, length := binary.BigEndian.Uint64(header[8:]), int64(binary.BigEndian.Uint32(header[16:]))
	c.in.Discard(structuredSize)
	if !c.export.structured {
		return broken("a structured reply, which was not agreed on")
	}
	r, err := c.find(cookie)
	if err != nil {
		return err
	}
	r.begun = true
	last := flags&replyDone != 0
	if err := c.chunk(r, kind, length, last); err != nil || !last {
		return err
	}
	if err := c.whole(r); err != nil {
		return err
	}
	c.answer(cookie, r, r.failed)
	return nil
}

// chunk takes the rest of a chunk. Source: doc/proto.md, "Structured reply types".
func (c *Client) chunk(r *request, kind uint16, length int64, last bool) error {
	switch {
	case kind == chunkNone && length == 0 && last:
		return nil
	case kind == chunkData && r.command == cmdRead && length > 8:
		return c.data(r, length-8)
	case kind == chunkHole && r.command == cmdRead && length == 12:
		return c.hole(r)
	case kind == chunkStatus && r.command == cmdBlockStatus && length >= 12 && (length-4)%8 == 0 && (length-4)/8 <= maxExtents:
		return c.status(r, (length-4)/8)
	case kind&chunkIsError != 0 && length >= 6 && length <= maxErrorChunk:
		return c.error(r, kind, length)
	}
	return broken("a chunk of type %d, %d bytes, as a reply to command %d", kind, length, r.command)
}

// whole finds a reply that ends before everything was said.
func (c *Client) whole(r *request) error {
	switch {
	case r.failed != nil:
	case r.command == cmdRead && !r.filled.whole(r.length):
		return broken("a read of %d bytes at %d ends with some of them missing", r.length, r.off)
	case r.command == cmdBlockStatus && r.seen&(1<<r.context) == 0:
		return broken("a block status ends without the metadata context")
	}
	return nil
}

// error takes an error and its text, and skips what else is in the chunk. The
// first error of a reply is the request's.
func (c *Client) error(r *request, kind uint16, length int64) error {
	head, err := c.peek(6)
	if err != nil {
		return err
	}
	number, said := binary.BigEndian.Uint32(head), int64(binary.BigEndian.Uint16(head[4:]))
	c.in.Discard(6)
	rest := length - 6 - said
	if number == 0 || rest < 0 || kind == chunkErrorOffset && rest < 8 {
		return broken("error %d with a text of %d bytes in a chunk of %d", number, said, length)
	}
	text, err := c.peek(int(min(said, maxText)))
	if err != nil {
		return err
	}
	if r.failed == nil {
		r.failed = c.refused(number, printable(text))
	}
	return c.skip(length - 6)
}

// refused is a request's error. A server that shuts down takes no more requests.
// Source: doc/proto.md, "Terminating the transmission phase".
func (c *Client) refused(number uint32, text string) error {
	err := &Error{Errno: errno(number), Text: text}
	if err.Errno != syscall.ESHUTDOWN {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = lost("the server is shutting down")
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, err)
}
