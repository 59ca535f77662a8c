// Package webfile reads a file from a web server, and goes on with it where it broke off.
package webfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// ErrServer is a file that cannot be read from there.
var ErrServer = errors.New("it cannot be read from the web server")

const (
	// Tries is how often in a row a file is gone on with that brings nothing more.
	tries = 5
	// stalled is how long nothing may come.
	stalled = time.Minute
)

// File is one that is read once, from its beginning.
type File struct {
	ctx    context.Context
	url    string
	client *http.Client
	pause  time.Duration // before it is gone on with

	body   io.ReadCloser
	cancel context.CancelFunc
	tag    string // of the file; another one is another file
	at     int64
	size   int64 // -1: not known
	left   int
}

// Open begins to read a file by https. CA is certificates, PEM, that are trusted instead of
// the system's, or nothing.
func Open(ctx context.Context, address, ca string) (*File, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%w: %q is no address that begins with https://", ErrServer, address)
	}
	config := &tls.Config{}
	if ca != "" {
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, fmt.Errorf("%w: ca holds no certificate: give it as PEM", ErrServer)
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig, t.ResponseHeaderTimeout, t.DisableCompression = config, stalled, true
	f := &File{ctx: ctx, url: address, client: &http.Client{Transport: t}, pause: 3 * time.Second, size: -1, left: tries}
	return f, f.begin()
}

// begin asks for what is left of the file.
func (f *File) begin() error {
	ctx, cancel := context.WithCancel(f.ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		cancel()
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	if f.at > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", f.at))
		if f.tag != "" {
			r.Header.Set("If-Range", f.tag)
		}
	}
	reply, err := f.client.Do(r)
	if err != nil {
		cancel()
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	if err := f.accept(reply); err != nil {
		cancel()
		return errors.Join(err, reply.Body.Close())
	}
	f.body, f.cancel = reply.Body, cancel
	return nil
}

// errOther is a server that cannot go on with the file that it has begun with.
var errOther = errors.New("the file cannot be gone on with: it was changed, or the server does not know how")

func (f *File) accept(reply *http.Response) error {
	switch {
	case f.at == 0 && reply.StatusCode == http.StatusOK:
		f.tag, f.size = reply.Header.Get("ETag"), reply.ContentLength
		return nil
	case f.at > 0 && reply.StatusCode == http.StatusPartialContent && reply.Header.Get("ETag") == f.tag:
		return nil
	case f.at > 0 && (reply.StatusCode == http.StatusOK || reply.StatusCode == http.StatusPartialContent):
		return fmt.Errorf("%w: %w", ErrServer, errOther)
	}
	return fmt.Errorf("%w: it answers %s", ErrServer, reply.Status)
}

// Read reads on, also when the connection was lost meanwhile.
func (f *File) Read(b []byte) (int, error) {
	for {
		watch := time.AfterFunc(stalled, f.cancel)
		n, err := f.body.Read(b)
		watch.Stop()
		f.at += int64(n)
		if n > 0 {
			f.left = tries
			return n, nil
		}
		if errors.Is(err, io.EOF) && (f.size < 0 || f.at == f.size) {
			return 0, io.EOF
		}
		if err := f.again(err); err != nil {
			return 0, err
		}
	}
}

// again goes on after a connection was lost.
func (f *File) again(why error) error {
	for {
		if err := f.Close(); err != nil {
			return err
		}
		if f.left--; f.left < 0 || f.ctx.Err() != nil {
			return errors.Join(context.Cause(f.ctx), fmt.Errorf("%w: after %d bytes: %w", ErrServer, f.at, why))
		}
		select {
		case <-time.After(f.pause):
		case <-f.ctx.Done():
		}
		if why = f.begin(); why == nil || errors.Is(why, errOther) {
			return why
		}
	}
}

// Close ends reading.
func (f *File) Close() error {
	f.cancel()
	return f.body.Close()
}
