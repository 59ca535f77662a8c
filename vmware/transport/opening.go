package transport

import (
	"context"
	"errors"
	"fmt"
)

// replace opens a transport for all who wait.
func (c *carrier) replace() {
	c.mu.Lock()
	before := c.before
	c.mu.Unlock()
	before.settle(c.life)
	r, err := c.any()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = r
	if c.err == nil {
		c.err = err
	}
	if r != nil {
		c.say(Event{Transport: r.transport.Name, Used: true})
	}
	close(c.opening)
	c.opening = nil
}

// settle waits until a disk is closed, but not for ever: what hangs in it may never
// return.
func (r *carried) settle(ctx context.Context) {
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drained)
	defer cancel()
	select {
	case <-r.done:
	case <-ctx.Done():
	}
}

// any opens the next transport that can read the disk, or else the last one again.
func (c *carrier) any() (*carried, error) {
	var why []error
	for c.next < len(c.list) {
		i := c.next
		c.next++
		r, err := c.open(i)
		switch {
		case err == nil:
			c.last = i
			return r, nil
		case c.life.Err() != nil:
			return nil, context.Cause(c.life)
		case errors.Is(err, ErrGone):
			return nil, err
		}
		why = append(why, fmt.Errorf("%s: %w", c.list[i].Name, err))
	}
	if c.last < 0 {
		return nil, fmt.Errorf("disk %d: %w: no transport can read it: %w", c.disk.Key, ErrUnusable, errors.Join(why...))
	}
	return c.again()
}

// again opens the last transport again.
func (c *carrier) again() (r *carried, err error) {
	err = c.pace.try(c.life, func(context.Context) error {
		r, err = c.open(c.last)
		if err == nil || errors.Is(err, ErrGone) {
			return err
		}
		return passing{error: err}
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", c.list[c.last].Name, err)
	}
	return r, err
}

// open opens a transport of the list.
func (c *carrier) open(i int) (*carried, error) {
	d := c.disk
	if c.last >= 0 {
		d.Next = 0 // those are open by now, or about to be
	}
	r, err := c.list[i].Open(c.life, c.access, d)
	if err == nil {
		if err = c.agree(r.Size()); err != nil {
			err = errors.Join(err, r.Close())
		}
	}
	if err != nil {
		c.mu.Lock()
		c.say(Event{Transport: c.list[i].Name, Reason: err})
		c.mu.Unlock()
		return nil, err
	}
	n := &carried{Remote: r, transport: c.list[i], done: make(chan struct{})}
	n.life, n.end = context.WithCancelCause(c.life)
	return n, nil
}

// agree refuses a disk of another size than it has by the inventory, or by another
// transport.
func (c *carrier) agree(size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size == 0 {
		c.size = size
	}
	if size != c.size {
		return fmt.Errorf("%w: it has a disk of %d bytes, where %d are to be read", ErrUnusable, size, c.size)
	}
	return nil
}
