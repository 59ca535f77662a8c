package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// mostInFlight is how many requests for one disk are under way at a time. An ESXi host
// serves few at once, and each holds some of its memory.
const mostInFlight = 8

// mostDrained is how much of an answer that is not wanted is read, in bytes, so that
// its connection can be used again.
const mostDrained = 64 << 10

// mostRefusals is how often one request may be refused with a fresh cookie each time.
const mostRefusals = 3

// web asks a server for what lies at URLs.
type web struct {
	client *http.Client
	cookie *cookie // nil: none is sent
	pace   pace
	turns  chan struct{} // one for each request under way
}

// newWeb asks by way of a client, whose idle connections are not to be few: each would
// begin with TLS again. A redirect is not followed, since the cookie is for one server.
func newWeb(client *http.Client, c *cookie) *web {
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if t, ok := own.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, mostInFlight)
		own.Transport = t
	}
	return &web{client: &own, cookie: c, pace: usual, turns: make(chan struct{}, mostInFlight)}
}

// close lets go of connections.
func (w *web) close() { w.client.CloseIdleConnections() }

// turn waits until a request may be made; the caller ends it.
func (w *web) turn(ctx context.Context) (end func(), err error) {
	select {
	case w.turns <- struct{}{}:
		return func() { <-w.turns }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// do makes a request, until it is answered by other than failures that pass, and hands
// the answer to use, which reads the body. The context of use ends when nothing comes
// for long.
func (w *web) do(ctx context.Context, u *url.URL, header func() http.Header, use func(*http.Response) error) error {
	return w.pace.try(ctx, func(ctx context.Context) error {
		end, err := w.turn(ctx)
		if err != nil {
			return err
		}
		defer end()
		return w.authenticated(ctx, u, header(), use)
	})
}

// authenticated makes a request, with another cookie each time that one is refused.
func (w *web) authenticated(ctx context.Context, u *url.URL, header http.Header, use func(*http.Response) error) error {
	refused := ""
	for range mostRefusals {
		value, err := w.cookie.value(ctx, refused)
		if err != nil {
			return fmt.Errorf("the session at %s has ended, and there is no other: %w", u.Host, err)
		}
		if err := w.once(ctx, u, header, value, use); !errors.Is(err, errRefused) {
			return err
		}
		refused = value
	}
	return fmt.Errorf("%w: %s refuses each session that it has just given: %w; it restarts, or somebody ends sessions there: wait until that is over, and give the same command again", ErrUnusable, u.Host, errRefused)
}

// mostLocked is how long a file that cannot be opened is tried. A server that is short
// of something says the same as of a file that a VM has locked.
const mostLocked = 10 * time.Second

// errRefused is a session that the server does not know, or not any more.
var errRefused = errors.New("the server refuses the session")

// errStalled is a connection on which nothing comes.
var errStalled = errors.New("the server sends nothing")

// once makes a request once.
func (w *web) once(ctx context.Context, u *url.URL, header http.Header, value string, use func(*http.Response) error) error {
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(w.pace.stall, func() { cancel(errStalled) })
	defer alarm.Stop()
	request, err := http.NewRequestWithContext(own, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	request.Header = header.Clone()
	if value != "" {
		request.Header.Set("Cookie", value)
	}
	answer, err := w.client.Do(request)
	if err != nil {
		return unanswered(own, err)
	}
	defer answer.Body.Close()
	if errors.Is(context.Cause(own), errStalled) {
		return passing{error: errStalled} // what a server says to a request that it saw given up is no answer
	}
	answer.Body = &watched{answer.Body, alarm, w.pace.stall}
	if err := refusal(answer); err != nil {
		io.CopyN(io.Discard, answer.Body, mostDrained) //nolint:errcheck // the connection is closed if it fails
		return err
	}
	return cut(own, use(answer))
}

// watched puts an alarm off each time that something comes.
type watched struct {
	io.ReadCloser
	alarm *time.Timer
	after time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.alarm.Reset(w.after)
	}
	return n, err
}

// unanswered is why a request got no answer. What a network does passes; a certificate
// that is not the server's does not.
func unanswered(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // which has no URL in it: that may hold a ticket
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "http2:") {
		return cut(ctx, err)
	}
	if errors.Is(context.Cause(ctx), errStalled) {
		return cut(ctx, err)
	}
	return fmt.Errorf("%w: %w", ErrUnusable, err)
}

// cut is a failure while an answer came: it passes. A verdict on what came does not.
func cut(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if v, ok := errors.AsType[verdict](err); ok {
		return v.error
	}
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		err = cause
	}
	return passing{error: err}
}

// verdict is an answer that will not become better.
type verdict struct{ error }

// Unwrap is what is wrong with it.
func (v verdict) Unwrap() error { return v.error }

// refusal is what an answer's status says.
func refusal(a *http.Response) error {
	said := fmt.Errorf("%s answers %d %s", a.Request.URL.Host, a.StatusCode, http.StatusText(a.StatusCode))
	switch a.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return nil
	case http.StatusUnauthorized:
		return errRefused
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w: %w", errNoFile, said)
	case http.StatusForbidden:
		return fmt.Errorf("%w: %w", errForbidden, said)
	case http.StatusInternalServerError, http.StatusConflict, http.StatusLocked:
		return passing{error: fmt.Errorf("%w: %w", errLocked, said), within: mostLocked}
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return passing{error: said, after: retryAfter(a)}
	}
	return fmt.Errorf("%w: %w", ErrUnusable, said)
}

// What a server says of a file.
var (
	errNoFile    = errors.New("there is no such file")
	errForbidden = errors.New("the user may not read it")
	errLocked    = errors.New("it cannot be opened")
)

// retryAfter is how long a server wants to be left alone; zero if it does not say.
func retryAfter(a *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(a.Header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
