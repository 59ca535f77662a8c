package vmware

import (
	"errors"
	"net/http"
	"sync/atomic"
)

var errCut = errors.New("cut")

// cutter is a connection that is cut at its n-th call: before it is sent, or when it was
// answered. Dead, nothing goes through any more.
type cutter struct {
	http.RoundTripper
	at    int64
	after bool
	dead  bool
	calls atomic.Int64
}

func (c *cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.calls.Add(1)
	if c.at == 0 || n < c.at || n > c.at && !c.dead {
		return c.RoundTripper.RoundTrip(r)
	}
	if n == c.at && c.after {
		res, err := c.RoundTripper.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		res.Body.Close()
	}
	return nil, errCut
}

// cut has a session's calls go through a cutter.
func (s *Session) cut(c *cutter) *cutter {
	c.RoundTripper = s.client.Client.Client.Transport
	s.client.Client.Client.Transport = c
	return c
}
