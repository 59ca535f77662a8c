package transport

import (
	"context"
	"sync"
)

// cookie is that of a session at the server, shared by all requests for a disk. One
// that the server refused is given back once, however many requests it refused.
type cookie struct {
	get     func(ctx context.Context, refused string) (string, error)
	mu      sync.Mutex
	current string
	asking  chan struct{} // closed when who asks for another one is done; nil if nobody does
}

// value is a cookie that is not the refused one; of the first there is none.
func (c *cookie) value(ctx context.Context, refused string) (string, error) {
	if c == nil || c.get == nil {
		return "", nil
	}
	for {
		c.mu.Lock()
		if c.current != "" && c.current != refused {
			defer c.mu.Unlock()
			return c.current, nil
		}
		if c.asking == nil {
			c.asking = make(chan struct{})
			c.mu.Unlock()
			return c.renew(ctx)
		}
		wait := c.asking
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// renew gets another cookie; nobody else does meanwhile.
func (c *cookie) renew(ctx context.Context) (string, error) {
	fresh, err := c.get(ctx, c.current)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.asking)
	c.asking = nil
	if err == nil {
		c.current = fresh
	}
	return fresh, err
}
