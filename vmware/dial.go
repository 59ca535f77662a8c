package vmware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Deadlines of a connection's parts. Idle ones are given up before servers do it, so
// that a call is not sent into one that is being closed.
const (
	dialIn    = 10 * time.Second
	shakeIn   = 10 * time.Second
	idleUntil = 30 * time.Second
)

// connectIn is how long it may take until a session stands. It is a variable for
// tests alone.
var connectIn = 30 * time.Second

var errSilent = errors.New("it did not answer in time")

// transport reaches a peer, and nobody else.
func (n network) transport(p *peer) *http.Transport {
	t := &http.Transport{}
	n.prepare(t, p)
	return t
}

// prepare makes a transport reach a peer, which is asked for by its address. A proxy
// is chosen by the name: so people write it into NO_PROXY.
func (n network) prepare(t *http.Transport, p *peer) {
	dialer := &net.Dialer{Timeout: dialIn}
	t.DialContext = dialer.DialContext
	t.DialTLSContext = nil
	t.TLSClientConfig = p.tls()
	t.TLSHandshakeTimeout = shakeIn
	t.IdleConnTimeout = idleUntil
	t.ForceAttemptHTTP2 = false
	t.Proxy = func(*http.Request) (*url.URL, error) {
		return n.proxy(&url.URL{Scheme: "https", Host: net.JoinHostPort(p.name, p.port)})
	}
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return &proxyRefusal{proxy.Host, r.Status}
		}
		return nil
	}
}

// proxyRefusal is a proxy that leads to no server.
type proxyRefusal struct{ host, status string }

func (r *proxyRefusal) Error() string {
	return fmt.Sprintf("the proxy %s answers %q when it is asked for the server", r.host, r.status)
}

// onto sends requests for a peer to its address, and no others.
type onto struct {
	peer *peer
	next http.RoundTripper
}

func (o onto) RoundTrip(r *http.Request) (*http.Response, error) {
	host, port := split(r.URL.Host, "443")
	asked := net.JoinHostPort(canonical(host), port)
	if r.URL.Scheme != "https" || asked != net.JoinHostPort(canonical(o.peer.name), o.peer.port) && asked != o.peer.address {
		return nil, fmt.Errorf("%w: this client reaches %s, not %s", ErrConnect, o.peer.host(), r.URL.Host)
	}
	sent := r.Clone(r.Context())
	if sent.Host == "" {
		sent.Host = r.URL.Host
	}
	sent.URL.Host = o.peer.address
	return o.next.RoundTrip(sent)
}

// answerMax is how much of one answer is read: a page of thousands of VMs has some
// tens of MiB.
const answerMax = 512 << 20

// bounded are the answers to calls: of a bounded length, and with a status that the
// API gives.
type bounded struct{ next http.RoundTripper }

// status is an HTTP status that is no answer to a call.
type status int

func (s status) Error() string {
	return fmt.Sprintf("HTTP status %d %s", int(s), http.StatusText(int(s)))
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if c := response.StatusCode; c != http.StatusOK && c != http.StatusInternalServerError {
		_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // so that the connection may be used again
		response.Body.Close()
		return nil, status(c)
	}
	response.Body = http.MaxBytesReader(nil, response.Body, answerMax)
	return response, nil
}
