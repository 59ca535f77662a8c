package vmware

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

var errCut = errors.New("cut")

// reads begin the bodies of calls that change nothing.
var reads = []byte("<RetrieveProperties")

// cutter is a connection that is cut at its n-th call: before it is sent, or when it was
// answered. Dead, nothing goes through any more.
type cutter struct {
	http.RoundTripper
	at    int64
	after bool
	dead  bool
	every bool // calls that change nothing are counted too
	calls atomic.Int64
}

func (c *cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	n, counted := c.count(r)
	switch {
	case c.at == 0 || n < c.at || !c.dead && (n > c.at || !counted):
		return c.RoundTripper.RoundTrip(r)
	case n == c.at && counted && c.after:
		res, err := c.RoundTripper.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		res.Body.Close()
	}
	return nil, errCut
}

// count is which call this is, and whether it is one that counts: a read belongs to the
// call before it.
func (c *cutter) count(r *http.Request) (int64, bool) {
	if c.every || r.Body == nil {
		return c.calls.Add(1), true
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if bytes.Contains(body, reads) {
		return c.calls.Load(), false
	}
	return c.calls.Add(1), true
}

// cut has a session's calls go through a cutter.
func (s *Session) cut(c *cutter) *cutter {
	c.RoundTripper = s.client.Client.Client.Transport
	s.client.Client.Client.Transport = c
	return c
}
