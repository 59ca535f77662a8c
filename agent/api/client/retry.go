package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// doer sends requests. Those that do the same when they are sent twice are sent again
// if the connection is lost or the appliance is busy: questions, and what has an
// Idempotency-Key.
type doer struct {
	address string
	token   string
	http    *http.Client
	reached atomic.Bool // the appliance has answered
}

// Bounds of sending again: how long at most, how often at first and later.
const (
	insist = 45 * time.Second
	soon   = 250 * time.Millisecond
	later  = 5 * time.Second
)

// Do implements HttpRequestDoer.
func (d *doer) Do(r *http.Request) (*http.Response, error) {
	if d.token != "" {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	until := time.Now().Add(insist)
	for wait := soon; ; wait = min(2*wait, later) {
		reply, err := d.http.Do(r)
		pause, again := d.again(r, reply, err)
		pause = max(pause, wait)
		if !again || time.Now().Add(pause).After(until) {
			return reply, d.told(r.Context(), err)
		}
		if reply != nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(reply.Body, 1<<16)) // so that the connection can be used again
			if err := reply.Body.Close(); err != nil {
				return nil, err
			}
		}
		if err := sleep(r.Context(), pause); err != nil {
			return nil, err
		}
		if r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// again tells whether a request is to be sent again, and not before when. An appliance
// that has never answered is not waited for: its address may be wrong.
func (d *doer) again(r *http.Request, reply *http.Response, err error) (time.Duration, bool) {
	safe := r.Method == http.MethodGet || r.Header.Get("Idempotency-Key") != ""
	if err != nil {
		return 0, safe && d.reached.Load() && r.Context().Err() == nil && !errors.Is(untrusted(err), ErrTrust)
	}
	d.reached.Store(true)
	busy := reply.StatusCode == http.StatusServiceUnavailable || reply.StatusCode == http.StatusTooManyRequests
	return retryAfter(reply.Header), safe && busy
}

// told is the error of a request that was not answered.
func (d *doer) told(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the address is told below
	}
	if err = untrusted(err); errors.Is(err, ErrTrust) {
		return fmt.Errorf("%s: %w", d.address, err)
	}
	return fmt.Errorf("the appliance at %s does not answer: %w", d.address, err)
}

// retryAfter is what a header says of when to ask again; 0 if nothing.
// Source: RFC 9110, section 10.2.3; the API writes seconds.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Minute)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
