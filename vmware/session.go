package vmware

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
)

// Session is a log-in at a server, a vCenter or a standalone ESXi host. Any number of
// goroutines may use it. It is kept alive, and made anew when the server has ended it.
type Session struct {
	config  Config
	network network
	peer    *peer
	soap    *soap.Client  // says calls to the server, once
	client  *vim25.Client // says them through RoundTrip

	turn    chan struct{} // who has it may log in or out; what follows is its own
	refused error         // the server will not have the user; asked again, it locks the account
	closed  bool

	logins atomic.Int64           // how often a log-in succeeded
	key    atomic.Pointer[string] // of the server's session
	stop   func()                 // ends what keeps the session alive
}

// Connect logs in at a server. The session lasts until Close. ErrConnect is a server
// that is not reached, or not the right one; ErrLogin is one that does not know the
// user; ErrPrivilege one where the user may see nothing. Their texts say what to do.
func Connect(ctx context.Context, c Config) (*Session, error) {
	s, err := prepare(c)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, connectIn, errSilent)
	defer cancel()
	if err := s.open(bounded); err != nil {
		s.soap.CloseIdleConnections()
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), s.Close(ctx))
	}
	return s, nil
}

// prepare is a session that is not yet one.
func prepare(c Config) (*Session, error) {
	n, err := c.network()
	if err != nil {
		return nil, err
	}
	p, err := n.peer(c.Server, c.Thumbprint)
	if err != nil {
		return nil, err
	}
	s := &Session{config: c, network: n, peer: p, turn: make(chan struct{}, 1), stop: func() {}}
	s.soap = soap.NewClient(&url.URL{Scheme: "https", Host: p.address, Path: vim25.Path}, false)
	n.prepare(s.soap.DefaultTransport(), p)
	s.soap.Transport = bounded{s.soap.DefaultTransport()}
	s.soap.CheckRedirect = here
	s.soap.Namespace, s.soap.Version = "urn:"+vim25.Namespace, vim25.Version
	return s, nil
}

// here follows no redirection: what was sent to a server is for that server.
func here(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// open finds the API and logs in.
func (s *Session) open(ctx context.Context) error {
	content, err := methods.GetServiceContent(ctx, s)
	if err == nil && (content.About.ApiType == "" || content.SessionManager == nil) {
		err = errStrange
	}
	if err != nil {
		return s.peer.unreachable(ctx, err)
	}
	s.client = &vim25.Client{Client: s.soap, ServiceContent: content, RoundTripper: s}
	if err := s.again(ctx, 0); err != nil {
		return err
	}
	s.stop = s.keepAlive()
	return nil
}

// Close logs out, also if its context has ended. Nothing may be called after it.
func (s *Session) Close(ctx context.Context) error {
	s.stop()
	ctx, cancel := outlive(ctx, 0)
	defer cancel()
	s.turn <- struct{}{} // a log-in that is under way ends within its own time
	defer func() { <-s.turn }()
	if s.closed {
		return nil
	}
	s.closed = true
	_, err := methods.Logout(ctx, s, logout(s.client))
	s.soap.CloseIdleConnections()
	if err != nil && !notAuthenticated(err) {
		return fmt.Errorf("log out of %s: %w; the server ends the session by itself when it was idle for half an hour", s.peer.host(), err)
	}
	return nil
}

// VCenter is whether the server is a vCenter, and not an ESXi host.
func (s *Session) VCenter() bool { return s.client.IsVC() }
