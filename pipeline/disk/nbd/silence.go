package nbd

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// pulse tells when a server was last heard of, whatever is done to the clock.
type pulse struct {
	began time.Time
	at    atomic.Int64 // nanoseconds since then
}

func (p *pulse) beat() { p.at.Store(int64(time.Since(p.began))) }

// quiet is for how long nothing was heard.
func (p *pulse) quiet() time.Duration { return time.Since(p.began) - time.Duration(p.at.Load()) }

// heard is a connection that notes when bytes come.
type heard struct {
	net.Conn
	pulse *pulse
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 {
		h.pulse.beat()
	}
	return n, err
}

// LongestSilence is far more than a read takes from what is far away, busy, or stunned by
// a snapshot.
const LongestSilence = 5 * time.Minute

// looksPerSilence is how often it is looked whether a server has fallen silent, in the
// time that it may be.
const looksPerSilence = 8

// listen ends the connection when the server owes an answer and has sent nothing for
// longer than it may. One that is slow sends something.
func (c *Client) listen(most time.Duration) {
	tick := time.NewTicker(max(most/looksPerSilence, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.owes() && c.pulse.quiet() > most {
				c.fail(silent(most))
			}
		case <-c.done:
			return
		}
	}
}

// owes tells whether the server has requests to answer.
func (c *Client) owes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) > 0
}

func silent(most time.Duration) error {
	return fmt.Errorf("%w: it owes an answer and sent nothing for %v", ErrSilent, most)
}
