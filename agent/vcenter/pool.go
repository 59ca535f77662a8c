// Package vcenter asks the vCenters and ESXi hosts of the settings, and brings guests
// from them. It is where the agent meets the library of vSphere: the API and the workers
// know it by interfaces of their own.
//
// Session: a log-in at a server. All who ask a server share one; it ends when nobody has
// for a while, and with the pool. Refused: a server's answer to its user and password.
// That is not tried again until the secret with the password is put anew, because
// servers lock accounts after a few attempts.
package vcenter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/seal"
	"hyper2kvm/vmware"
)

// idle is how long a session is kept that nobody uses. It is a variable for tests alone.
var idle = 5 * time.Minute

// atOnce is how many may ask one server at the same time: each may hold some hundred VMs
// in memory.
const atOnce = 4

// Config is what a pool is made with.
type Config struct {
	Servers []config.Server
	// Secret opens a sealed secret. Its number changes when the secret is put.
	Secret func(ctx context.Context, name string) (seal.Secret, uint64, error)
	// VDDK is the folder of the library that was uploaded.
	VDDK func() (string, error)
	// File is where a file is that may be a credential of systemd's.
	File func(name string) string
	Log  *slog.Logger
}

// Pool is sessions at servers. Any number of goroutines may use it.
type Pool struct {
	config  Config
	servers []*server
	ctx     context.Context // ends with the pool
	end     context.CancelCauseFunc
	using   sync.WaitGroup
}

// server is one of the settings'.
type server struct {
	config.Server
	asking chan struct{} // has a place for each who asks
	turn   chan struct{} // who has it may use what follows
	tried  uint64        // the secret's number, when it was tried last
	shared *shared

	no atomic.Pointer[refusal] // nil: it was not refused; written by who has the turn
}

// refusal is a log-in that a server refused. It is a vmware.ErrLogin.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }
func (*refusal) Unwrap() error   { return vmware.ErrLogin }

// shared is a session that some use.
type shared struct {
	*vmware.Session
	users  int
	old    bool // nobody else may use it
	expire *time.Timer

	mu     sync.Mutex
	survey *vmware.Survey
	until  time.Time // when it is too old
}

var errClosed = errors.New("the appliance stops")

// New makes a pool. Nobody is asked for anything yet.
func New(c Config) *Pool {
	p := &Pool{config: c}
	p.ctx, p.end = context.WithCancelCause(context.Background())
	for _, s := range c.Servers {
		p.servers = append(p.servers, &server{Server: s, asking: make(chan struct{}, atOnce), turn: make(chan struct{}, 1)})
	}
	return p
}

// Close ends all sessions, and what is asked for in them.
func (p *Pool) Close() error {
	p.end(errClosed)
	p.using.Wait()
	var failed []error
	for _, s := range p.servers {
		s.turn <- struct{}{}
		failed = append(failed, s.retire())
		<-s.turn
	}
	return errors.Join(failed...)
}

// errNoServer is a name that no server of the settings has.
var errNoServer = errors.New("the settings have no such vSphere server")

func (p *Pool) find(name string) (*server, error) {
	for _, s := range p.servers {
		if s.Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", errNoServer, name)
}

// with has something done in a server's session.
func (p *Pool) with(ctx context.Context, name string, do func(context.Context, *server, *shared) error) (err error) {
	s, err := p.find(name)
	if err != nil {
		return err
	}
	p.using.Add(1)
	defer p.using.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(errClosed) })()
	if err := taken(ctx, s.asking); err != nil {
		return err
	}
	defer func() { <-s.asking }()
	c, err := p.enter(ctx, s)
	if err != nil {
		return err
	}
	defer func() { p.leave(s, c, err) }()
	return do(ctx, s, c)
}

func taken(ctx context.Context, place chan struct{}) error {
	select {
	case place <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter is a server's session, made if there is none.
func (p *Pool) enter(ctx context.Context, s *server) (*shared, error) {
	if err := taken(ctx, s.turn); err != nil {
		return nil, err
	}
	defer func() { <-s.turn }()
	password, number, err := p.config.Secret(ctx, s.Secret)
	if err != nil {
		return nil, fmt.Errorf("the password of the server %s: %w", s.Name, err)
	}
	defer password.Wipe()
	if number != s.tried {
		p.log(s, s.retire())
		s.tried = number
		s.no.Store(nil)
	}
	if no := s.no.Load(); no != nil {
		return nil, no
	}
	if s.shared == nil {
		session, err := vmware.Connect(ctx, s.access(password))
		if errors.Is(err, vmware.ErrLogin) {
			s.no.Store(&refusal{err.Error()})
		}
		if err != nil {
			return nil, err
		}
		s.shared = &shared{Session: session}
	}
	if s.shared.expire != nil {
		s.shared.expire.Stop()
	}
	s.shared.users++
	return s.shared, nil
}

// leave ends the use of a session, which ended with an error.
func (p *Pool) leave(s *server, c *shared, err error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	c.users--
	if errors.Is(err, vmware.ErrLogin) && s.shared == c {
		s.no.Store(&refusal{err.Error()})
		p.log(s, s.retire())
	}
	switch {
	case c.users > 0:
	case c.old:
		p.log(s, c.Close(p.ctx))
	default:
		c.expire = time.AfterFunc(idle, func() { p.expire(s, c) })
	}
}

// expire ends a session that nobody has used for a while.
func (p *Pool) expire(s *server, c *shared) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if c.users == 0 && s.shared == c {
		p.log(s, s.retire())
	}
}

// retire has nobody else use the session that there is. It is ended by who uses it last.
func (s *server) retire() error {
	c := s.shared
	if c == nil {
		return nil
	}
	s.shared, c.old = nil, true
	if c.expire != nil {
		c.expire.Stop()
	}
	if c.users > 0 {
		return nil
	}
	return c.Close(context.Background())
}

func (p *Pool) log(s *server, err error) {
	if err != nil {
		p.config.Log.Warn("a session at a vSphere server did not end well", "server", s.Name, "err", err)
	}
}

// access is how the server is reached.
func (s *server) access(password seal.Secret) vmware.Config {
	return vmware.Config{Server: s.Server.Server, User: s.User, Password: vmware.Secret(password), Thumbprint: s.Thumbprint, CA: s.CA, Proxy: s.Proxy, Resolve: s.Resolve}
}
