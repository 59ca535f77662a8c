// Package client asks an appliance over its HTTP API. Most of it is made of the API's
// description; what is written by hand is the way to an appliance: whom to trust, what
// to do when a connection is lost, and how to wait for what takes long.
//
// Conn: a way to one appliance. Refusal: what it answers instead of what was asked for.
package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/vsock"
)

// ErrOptions is a way to an appliance that cannot be gone.
var ErrOptions = errors.New("cannot ask this appliance")

// Options are how to reach an appliance, and what it is shown. All may be empty.
type Options struct {
	Fingerprint string // of its certificate: SHA-256 in hexadecimal, with or without colons
	CA          string // file of the certificates, PEM, that sign its own
	TokenFile   string // file that only its owner can read, or credential:NAME of systemd's
	Certificate string // file of one's own certificate, PEM
	Key         string // file of its private key, PEM
}

// Conn is a way to an appliance. It may be used by many at once.
type Conn struct {
	api     *Client
	once    *http.Client // which sends nothing again
	address string
	quiet   time.Duration // after which a stream of events is taken to be lost
}

// How long a connection may take to come about, and an answer to begin. Whoever asks
// an appliance for its host waits until it has tried that.
const (
	dialWithin   = 10 * time.Second
	answerWithin = 2 * time.Minute
)

// New is a way to the appliance at an address: https://HOST:PORT, unix:PATH, or
// vsock:CID:PORT. Nothing is asked yet.
func New(address string, o Options) (*Conn, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialWithin}).DialContext, TLSHandshakeTimeout: dialWithin,
		ResponseHeaderTimeout: answerWithin, ForceAttemptHTTP2: true}
	base, err := route(address, t)
	if err != nil {
		return nil, err
	}
	if t.TLSClientConfig, err = o.trust(); err != nil {
		return nil, err
	}
	token, err := o.token()
	if err != nil {
		return nil, err
	}
	d := &doer{address: address, token: token, http: &http.Client{Transport: t, CheckRedirect: stay}}
	api, err := NewClient(base+"/api/v1", WithHTTPClient(d), WithRequestEditorFn(unsaid))
	return &Conn{api: api, once: d.http, address: address, quiet: 3 * ping}, err
}

// unsaid takes out of a request what nobody has said: the generated code sends empty
// parameters too.
func unsaid(_ context.Context, r *http.Request) error {
	q := r.URL.Query()
	maps.DeleteFunc(q, func(_ string, values []string) bool { return strings.Join(values, "") == "" })
	r.URL.RawQuery = q.Encode()
	maps.DeleteFunc(r.Header, func(_ string, values []string) bool { return strings.Join(values, "") == "" })
	return nil
}

// stay follows no redirection: the API has none, and a token goes nowhere else.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// route is the base of an address's URLs, and makes a transport go there.
func route(address string, t *http.Transport) (base string, err error) {
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "unix":
		t.Proxy, t.DialContext = nil, func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "unix", rest)
		}
		if rest != "" {
			return "http://appliance", nil
		}
	case "vsock":
		cid, port, err := vsockAddress(rest)
		t.Proxy, t.DialContext = nil, func(context.Context, string, string) (net.Conn, error) { return vsock.Dial(cid, port, nil) }
		if err == nil {
			return "https://localhost", nil // a name that the appliance's own certificate has
		}
	case "https":
		u, err := url.Parse(address)
		if err == nil && u.Host != "" && u.User == nil && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == "" {
			return "https://" + u.Host, nil
		}
	}
	return "", fmt.Errorf("%w: %q is no address: write https://HOST:8443, unix:PATH, or vsock:CID:PORT", ErrOptions, address)
}

func vsockAddress(text string) (cid, port uint32, err error) {
	a, b, _ := strings.Cut(text, ":")
	c, bad := strconv.ParseUint(a, 10, 32)
	p, worse := strconv.ParseUint(b, 10, 32)
	return uint32(c), uint32(p), errors.Join(bad, worse)
}

// Address is the appliance's.
func (c *Conn) Address() string { return c.address }

// newKey is what a request is known by when it is sent again.
func newKey() string { return rand.Text() }

// minTLS is what appliances speak at least.
const minTLS = tls.VersionTLS12
