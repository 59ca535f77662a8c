package transport

import (
	"errors"
	"sync"

	"hyper2kvm/pipeline/disk"
)

// closing is a disk that is closed once, with what it needs, however often it is
// asked to.
type closing struct {
	disk.Remote
	then func() error // after the disk itself is closed; nil: nothing
	once sync.Once
	err  error
}

// Close implements disk.Remote.
func (c *closing) Close() error {
	c.once.Do(func() {
		c.err = c.Remote.Close()
		if c.then != nil {
			c.err = errors.Join(c.err, c.then())
		}
	})
	return c.err
}
