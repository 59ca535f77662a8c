package transport

import (
	"context"
	"errors"
	"sync"
	"time"

	"hyper2kvm/pipeline/disk"
)

// Event tells which transport reads a disk from now on, or why one does not.
type Event struct {
	Disk      int32 // VMware's device key
	Transport string
	Used      bool
	Reason    error // of one that is not used, or not any more
}

// Open opens a disk by the first transport that can read it. What fails in the middle
// of it, after its own retries, is left for the next one, which reads the same bytes.
// The last that is left is opened again, with pauses, until reopening has taken too
// long. ErrGone ends all. Events are told one at a time. The disk is open until Close,
// also if ctx ends before.
func Open(ctx context.Context, list []Transport, a Access, d Disk, tell func(Event)) (disk.Remote, error) {
	c := &carrier{list: list, access: a, disk: d, tell: tell, size: d.Size, pace: reopening, last: -1}
	c.life, c.end = context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { c.end(context.Cause(ctx)) })
	r, err := c.use(ctx)
	if err == nil {
		c.leave(r)
	}
	if !stop() { // c ends with ctx
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// reopening is how long the last transport is opened again.
var reopening = pace{most: 10 * time.Minute, first: time.Second, last: 30 * time.Second}

// drained is how long a transport that failed is waited for, until another is opened:
// what hangs in it is not.
const drained = 10 * time.Second

// carrier reads a disk by one transport after the other.
type carrier struct {
	list   []Transport
	access Access
	disk   Disk
	tell   func(Event)
	pace   pace
	life   context.Context // until Close
	end    context.CancelCauseFunc

	mu      sync.Mutex
	size    int64         // bytes; 0 until it is known
	now     *carried      // nil: none is open
	before  *carried      // the one that failed
	opening chan struct{} // closed when somebody has opened one, or not; nil if nobody does
	next    int           // of the list, that was not tried
	last    int           // that was open, or -1
	err     error         // there is none left, or the disk is closed
	closes  []error
}

// carried is a disk as one transport reads it.
type carried struct {
	disk.Remote
	transport Transport
	life      context.Context // until it fails
	end       context.CancelCauseFunc
	users     int
	closed    bool          // or somebody is about to
	done      chan struct{} // closed when it is closed
}

// Errors of reads that are to be done again, and of those that are not.
var (
	errReplaced = errors.New("another transport is used")
	errClosed   = errors.New("the disk is closed")
)

// Size implements disk.Remote.
func (c *carrier) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// Read implements disk.Remote.
func (c *carrier) Read(ctx context.Context, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := within(c.Size(), off, int64(len(p))); err != nil {
		return err
	}
	return c.carry(ctx, int64(len(p)), func(ctx context.Context, r *carried) error {
		err := r.Read(ctx, p, off)
		if err == nil && c.disk.Came != nil && !r.transport.Whole {
			c.disk.Came(int64(len(p)))
		}
		return err
	})
}

// asked is what a question for extents takes of a host's budget, in bytes.
const asked = 64 << 10

// Extents implements disk.Remote.
func (c *carrier) Extents(ctx context.Context, off, n int64) (list []disk.Allocation, err error) {
	if err := within(c.Size(), off, n); err != nil {
		return nil, err
	}
	err = c.carry(ctx, asked, func(ctx context.Context, r *carried) (err error) {
		if list, err = r.Extents(ctx, off, n); err != nil {
			return err
		}
		return contiguous(list, off, n)
	})
	return list, err
}

// carry does something with the disk, by one transport after the other.
func (c *carrier) carry(ctx context.Context, bytes int64, do func(context.Context, *carried) error) error {
	var since time.Time
	for {
		r, err := c.use(ctx)
		if err != nil {
			return err
		}
		err = c.by(ctx, r, bytes, do)
		replaced := r.life.Err() != nil
		c.leave(r)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrGone):
			return err
		case replaced:
			continue
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > c.pace.most:
			return err
		}
		c.drop(r, err)
	}
}

// by does something by one transport, within the host's budget, until that fails.
func (c *carrier) by(ctx context.Context, r *carried, bytes int64, do func(context.Context, *carried) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.life, func() { cancel(context.Cause(r.life)) })()
	if !r.transport.Own {
		give, err := hosts.take(ctx, c.disk.Host, c, bytes)
		if err != nil {
			return err
		}
		defer give()
	}
	return do(ctx, r)
}

// use is the disk as it is read now, until leave. If it is not open, it is opened.
func (c *carrier) use(ctx context.Context) (*carried, error) {
	for {
		c.mu.Lock()
		if r := c.now; r != nil || c.err != nil {
			if c.err == nil {
				r.users++
			}
			err := c.err
			c.mu.Unlock()
			return r, err
		}
		if c.opening == nil {
			c.opening = make(chan struct{})
			go c.replace()
		}
		wait := c.opening
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leave ends the use of a disk. The last one closes what is not used any more.
func (c *carrier) leave(r *carried) {
	c.mu.Lock()
	r.users--
	idle := r.life.Err() != nil && r.idle()
	c.mu.Unlock()
	if idle {
		c.close(r)
	}
}

// drop ends a transport, once.
func (c *carrier) drop(r *carried, why error) {
	c.mu.Lock()
	if c.now != r {
		c.mu.Unlock()
		return
	}
	c.now, c.before = nil, r
	r.end(errReplaced)
	idle := r.idle()
	c.say(Event{Transport: r.transport.Name, Reason: why})
	c.mu.Unlock()
	if idle {
		c.close(r)
	}
}

// say tells an event; the mutex is held, so it is one at a time.
func (c *carrier) say(e Event) {
	e.Disk = c.disk.Key
	if c.tell != nil {
		c.tell(e)
	}
}

// idle tells, once, that nobody uses a disk that has ended; the mutex is held.
func (r *carried) idle() bool {
	idle := r.users == 0 && !r.closed
	r.closed = r.closed || idle
	return idle
}

// close closes a disk that nobody uses.
func (c *carrier) close(r *carried) {
	err := r.Remote.Close()
	c.mu.Lock()
	c.closes = append(c.closes, err)
	c.mu.Unlock()
	close(r.done)
}

// Close implements disk.Remote. It ends reads that are under way.
func (c *carrier) Close() error {
	c.mu.Lock()
	if c.err == nil {
		c.err = errClosed
	}
	wait := c.opening
	c.mu.Unlock()
	c.end(errClosed)
	if wait != nil {
		<-wait
	}
	c.mu.Lock()
	r, before := c.now, c.before
	c.now = nil
	idle := r != nil && r.idle()
	c.mu.Unlock()
	if idle {
		c.close(r)
	}
	if r != nil {
		<-r.done
	}
	before.settle(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.closes...)
}
