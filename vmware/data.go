package vmware

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
)

// URL is where the server is, by an address that can be dialled from here, without a
// path and without credentials.
func (s *Session) URL() *url.URL {
	return &url.URL{Scheme: "https", Host: s.peer.address}
}

// Thumbprint is the SHA-1 of the server's certificate, which was authenticated.
func (s *Session) Thumbprint() string { return sha1Of(s.peer.seen.Load()) }

// Login is the user and the password, for programs that log in by themselves.
func (s *Session) Login() (user, password string) {
	return s.config.User, string(s.config.Password)
}

// HTTPClient reaches the server, which it authenticates as the session does. It has no
// cookies, no time-out, and follows no redirection.
func (s *Session) HTTPClient() *http.Client { return s.network.client(s.peer) }

// ClientFor reaches another host, with a port if it is not 443, by the thumbprint of
// its certificate, SHA-1 or SHA-256; without one, authorities must have signed it.
func (s *Session) ClientFor(host, thumbprint string) (*http.Client, error) {
	p, err := s.network.peer(host, thumbprint)
	if err != nil {
		return nil, err
	}
	return s.network.client(p), nil
}

func (n network) client(p *peer) *http.Client {
	return &http.Client{Transport: onto{p, n.transport(p)}, CheckRedirect: here}
}

// Address is the address to dial for a host that the server speaks of: as Config.Resolve
// says it, else as it is.
func (s *Session) Address(host string) string {
	host, _ = split(s.network.address(host, "443"), "")
	return host
}

// Cookie is the value of the Cookie header of a session at the server, such as for its
// files. One that was refused is given to get another; if the session is alive that it
// stands for, then not the session is wrong: ErrPrivilege.
func (s *Session) Cookie(ctx context.Context, refused string) (string, error) {
	if c := s.cookie(); c != "" && c != refused {
		return c, nil
	}
	// A call that every server refuses without a log-in makes another if need be.
	if _, err := methods.GetCurrentTime(ctx, fleeting{s}); err != nil && !notAuthenticated(err) {
		return "", err
	}
	if c := s.cookie(); c != "" && c != refused {
		return c, nil
	}
	return "", fmt.Errorf("%w: %s refuses a session that is alive: %s needs Datastore.Browse and Datastore.FileManagement on the datastore",
		ErrPrivilege, s.peer.host(), s.config.User)
}

func (s *Session) cookie() string {
	for _, c := range s.soap.Jar.Cookies(s.URL()) {
		if c.Name == soap.SessionCookieName {
			return c.String()
		}
	}
	return ""
}
