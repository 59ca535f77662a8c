package vmware

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
)

// Session is a log-in at a server. Any number of goroutines may use it.
type Session struct {
	config Config
	client *vim25.Client
}

// Connect logs in at a server. The session lasts until Close.
func Connect(ctx context.Context, c Config) (*Session, error) {
	u, err := c.url()
	if err != nil {
		return nil, err
	}
	transport := soap.NewClient(u, false)
	if c.Thumbprint != "" {
		transport.SetThumbprint(u.Host, c.Thumbprint)
	}
	if c.CA != "" {
		if err := transport.SetRootCAs(c.CA); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrConnect, c.CA, err)
		}
	}
	client, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConnect, u.Host, err)
	}
	if err := session.NewManager(client).Login(ctx, url.UserPassword(c.User, string(c.Password))); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLogin, u.Host, err)
	}
	return &Session{config: c, client: client}, nil
}

// url is where a server's API is.
func (c Config) url() (*url.URL, error) {
	text := c.Server
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != "https" || u.Host == "" || u.User != nil) {
		err = errors.New("want a host name or an address, or an https URL without a user")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrConnect, c.Server, err)
	}
	u.Path = vim25.Path
	return u, nil
}

// Close logs out.
func (s *Session) Close(ctx context.Context) error {
	return session.NewManager(s.client).Logout(ctx)
}
