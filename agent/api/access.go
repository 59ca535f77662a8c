package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/auth"
)

// principalKey is where a request's principal is found.
type principalKey struct{}

// PeerKey is where the context of a connection over the Unix socket has its
// auth.Principal, by whose process is at the other end.
type PeerKey struct{}

// principal is who has sent a request.
func principal(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

// known finds out who has sent a request: whoever is at the socket, by a token, by a
// certificate, by a session. One that shows something that does not count is refused,
// though another way might have been open, but for what is open to everybody.
func (s *server) known(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		p, err := s.identify(r, from(c))
		if wanted(c).need.open && errors.Is(err, auth.ErrUnauthenticated) {
			p, err = auth.Principal{}, nil // who could not log in again, were they refused
		}
		if err != nil {
			return err
		}
		p = withOrigin(p, from(c))
		c.SetRequest(r.WithContext(context.WithValue(r.Context(), principalKey{}, p)))
		return next(c)
	}
}

func (s *server) identify(r *http.Request, from netip.Addr) (auth.Principal, error) {
	if p, ok := r.Context().Value(PeerKey{}).(auth.Principal); ok {
		return p, nil
	}
	if header := r.Header.Get("Authorization"); header != "" {
		token, ok := auth.Bearer(header)
		if !ok {
			return auth.Principal{}, fmt.Errorf("%w: the Authorization header holds no bearer token", auth.ErrUnauthenticated)
		}
		return s.Gate.Token(r.Context(), from, token)
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return s.Gate.Certificate(r.Context(), from, r.TLS)
	}
	if cookie, err := r.Cookie(auth.CookieName); err == nil {
		return s.Gate.Session(r.Context(), from, cookie.Value)
	}
	return auth.Principal{}, nil
}

// from is the address that a request comes from; none over the socket.
func from(c echo.Context) netip.Addr {
	a, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// withOrigin is a principal with the address that they come from.
func withOrigin(p auth.Principal, from netip.Addr) auth.Principal {
	if from.IsValid() {
		p.From = from.String()
	}
	return p
}

// origin is the address that a request comes from; none over the socket.
func origin(ctx context.Context) netip.Addr {
	a, err := netip.ParseAddr(principal(ctx).From)
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// need is what an operation asks of whoever calls it.
type need struct {
	role  auth.Role
	scope auth.Scope // empty: whatever a token is for
	by    auth.By    // empty: however somebody has proved who they are
	open  bool       // to everybody
}

// allow tells whether a principal may do what needs something.
func (n need) allow(p auth.Principal) error {
	switch {
	case n.open:
		return nil
	case p.Role == auth.Nobody:
		return fmt.Errorf("%w: nobody has logged in", auth.ErrUnauthenticated)
	case !p.Allows(n.role):
		return fmt.Errorf("%w: that needs the role %s, and %s has the role %s", auth.ErrForbidden, n.role, p.Name, p.Role)
	case n.by != "" && p.By != n.by:
		return fmt.Errorf("%w: that is asked for over the %s alone", auth.ErrForbidden, n.by)
	case n.scope != "" && !p.May(n.role, n.scope):
		return fmt.Errorf("%w: the token's scopes do not hold %s", auth.ErrForbidden, n.scope)
	}
	return nil
}

// hold lets through who may do what needs this.
func (n need) hold(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := n.allow(principal(c.Request().Context())); err != nil {
			return err
		}
		return next(c)
	}
}
