package nbd

import (
	"context"
	"encoding/binary"
	"sync"
	"time"
)

// request is one question to the server. From begun to failed it is the reader's,
// and the caller's again when done has told.
type request struct {
	command, flags uint16
	off, length    int64
	payload        []byte // sent after the header
	into           []byte // takes what is read
	context        int    // index of the metadata context that is asked for
	done           chan error

	begun   bool     // a chunk has come
	filled  spans    // what has been read, from the request's beginning
	seen    uint64   // metadata contexts that have come, a bit each
	extents []Extent // of the one that is asked for
	failed  error    // what the server refused

	// Beneath Client.mu.
	busy     bool          // the reader writes to into
	orphan   bool          // nobody waits any more: into is the caller's
	released chan struct{} // closed when the reader has let go of into
}

// requests keeps answered ones: a copy makes thousands in a second.
var requests = sync.Pool{New: func() any { return &request{done: make(chan error, 1)} }}

func newRequest(command, flags uint16, off, length int64) *request {
	r := requests.Get().(*request)
	*r = request{command: command, flags: flags, off: off, length: length, done: r.done, filled: r.filled[:0]}
	return r
}

// encode writes the request's header. Source: doc/proto.md, "Request message".
func (r request) encode(header []byte, cookie uint64) {
	binary.BigEndian.PutUint32(header, requestMagic)
	binary.BigEndian.PutUint16(header[4:], r.flags)
	binary.BigEndian.PutUint16(header[6:], r.command)
	binary.BigEndian.PutUint64(header[8:], cookie)
	binary.BigEndian.PutUint64(header[16:], uint64(r.off))
	binary.BigEndian.PutUint32(header[24:], uint32(r.length))
}

// recycle keeps a request that has been answered, but not its buffers, unless its
// extents are wanted.
func (r *request) recycle() {
	r.payload, r.into = nil, nil
	if r.command != cmdBlockStatus {
		requests.Put(r)
	}
}

// do sends a request and waits for its answer. A request without extents is not
// the caller's any more.
func (c *Client) do(ctx context.Context, r *request) error {
	cookie, err := c.submit(ctx, r)
	if err != nil {
		return err
	}
	select {
	case err := <-r.done:
		r.recycle()
		return err
	case <-ctx.Done():
	}
	if c.abandon(cookie, r) {
		return context.Cause(ctx)
	}
	err = <-r.done // it was answered meanwhile
	r.recycle()
	return err
}

// submit sends a request when it is its turn. When the connection breaks, the
// request is answered like every other, unless its own context broke it.
func (c *Client) submit(ctx context.Context, r *request) (uint64, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	cookie, err := c.register(r)
	if err != nil {
		return 0, err
	}
	r.encode(c.header[:], cookie)
	if err := c.send(ctx, cookie, r.payload); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		c.fail(lost(err))
		if ctx.Err() != nil {
			<-r.done
			return 0, err
		}
	}
	return cookie, nil
}

// register gives a request its cookie and makes its answer expected.
func (c *Client) register(r *request) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if len(c.pending) == 0 {
		c.pulse.beat()
	}
	c.last++
	c.pending[c.last] = r
	return c.last, nil
}

// sendGrace is how long a request goes on being sent after its context has ended:
// a server that takes it at all does so by then, on a busy machine too, and the
// connection lives.
const sendGrace = 5 * time.Second

// send writes the header and a payload at once. A context that ends meanwhile
// ends the write, after the grace.
func (c *Client) send(ctx context.Context, cookie uint64, payload []byte) error {
	if ctx.Done() == nil {
		return c.write(payload)
	}
	c.mu.Lock()
	c.sending = cookie
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { c.hurry(cookie) })
	err := c.write(payload)
	stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending = 0
	if c.hurried && err == nil { // it was sent within the grace
		err = c.raw.SetWriteDeadline(time.Time{})
	}
	c.hurried = false
	return err
}

// hurry bounds the write of a request, if it is still on.
func (c *Client) hurry(cookie uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sending == cookie {
		c.hurried = true
		_ = c.raw.SetWriteDeadline(time.Now().Add(sendGrace)) // a closed connection ends the write too
	}
}

func (c *Client) write(payload []byte) error {
	if len(payload) == 0 {
		_, err := c.conn.Write(c.header[:])
		return err
	}
	c.vector = [2][]byte{c.header[:], payload}
	c.parts = c.vector[:]
	_, err := c.parts.WriteTo(c.conn)
	c.vector = [2][]byte{}
	return err
}

// abandon stops waiting for an answer, and takes the buffer back from the
// reader: if that is writing to it, it is woken and lets go. False says that the
// answer is there.
func (c *Client) abandon(cookie uint64, r *request) bool {
	c.mu.Lock()
	if c.pending[cookie] != r {
		c.mu.Unlock()
		return false
	}
	r.orphan = true
	c.orphans++
	tooMany := c.orphans > maxOrphans
	released := make(chan struct{})
	if r.busy {
		r.released = released
		_ = c.raw.SetReadDeadline(past) // a closed connection wakes the reader too
	} else {
		close(released)
	}
	c.mu.Unlock()
	<-released
	if tooMany {
		c.fail(lost("the server owes too many answers"))
	}
	return true
}

// answer ends a request.
func (c *Client) answer(cookie uint64, r *request, err error) {
	c.mu.Lock()
	delete(c.pending, cookie)
	if r.orphan {
		c.orphans--
	}
	c.mu.Unlock()
	r.done <- err
}
