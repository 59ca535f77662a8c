package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Times of an SSH connection.
const (
	sshDialWait = 30 * time.Second // to log in
	sshAnew     = 45 * time.Second // to connect anew, from the first failure on
)

// sshKeepAlive is between two signs of life, and for the answer to one; a variable for
// tests alone.
var sshKeepAlive = 15 * time.Second

// sshLink is a connection to a host that is made anew when it is cut.
type sshLink struct {
	access  *SSH
	address string
	pace    pace
	alive   time.Duration // between two signs of life
	turn    chan struct{} // held by who looks at what follows
	now     *sshSession
	closed  bool
}

func newSSHLink(access *SSH, address string) *sshLink {
	return &sshLink{access: access, address: address, pace: usual, alive: sshKeepAlive, turn: make(chan struct{}, 1)}
}

// session is the connection to use, another one after one failed. The first is tried
// once, and later ones for some time.
func (l *sshLink) session(ctx context.Context, failed *sshSession) (*sshSession, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch {
	case l.closed:
		return nil, errClosed
	case l.now != nil && l.now != failed:
		return l.now, nil
	case l.now != nil:
		l.now.end()
		l.now = nil
	}
	err := l.pace.try(ctx, func(ctx context.Context) (err error) {
		l.now, err = l.dial(ctx)
		if err == nil || errors.Is(err, ErrUnusable) || failed == nil {
			return err
		}
		return passing{error: err, within: sshAnew}
	})
	return l.now, err
}

// Close ends the connection.
func (l *sshLink) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.closed = true; l.now != nil {
		l.now.end()
		l.now = nil
	}
	return nil
}

// sshSession is one connection, until it is cut.
type sshSession struct {
	pace   pace
	alive  time.Duration
	client *ssh.Client
	files  *sftp.Client
	ended  chan struct{}
}

func (l *sshLink) dial(ctx context.Context) (_ *sshSession, err error) {
	end, err := l.access.turns.wait(ctx, l.address)
	if err != nil {
		return nil, err
	}
	defer end()
	if no, ok := l.access.refused.Load(l.address); ok {
		return nil, no.(error)
	}
	config, err := l.access.config(l.address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sshDialWait, fmt.Errorf("no log-in within %v", sshDialWait))
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, sshError(ctx, l.address, err)
	}
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn, channels, requests, err := ssh.NewClientConn(raw, l.address, config)
	if err != nil {
		raw.Close() // it is lost either way
		if err = sshError(ctx, l.address, err); errors.Is(err, errNoLogIn) {
			l.access.refused.Store(l.address, err)
		}
		return nil, err
	}
	s := &sshSession{pace: l.pace, alive: l.alive, client: ssh.NewClient(conn, channels, requests), ended: make(chan struct{})}
	if s.files, err = sftp.NewClient(s.client, sftp.UseConcurrentReads(true)); err != nil {
		s.client.Close() // as above
		return nil, sshError(ctx, l.address, fmt.Errorf("SFTP: %w", err))
	}
	go s.live()
	return s, nil
}

// refusedLogIn is how the library tells of a server that refuses to ask any question:
// 51 is SSH_MSG_USERAUTH_FAILURE. Source: RFC 4252, section 6; OpenSSH 9.2 without PAM.
const refusedLogIn = "unexpected message type 51"

// errNoLogIn is a log-in that a host refuses.
var errNoLogIn = errors.New("refuses the user, the key or the password")

// sshError says what to do about a connection that there is not.
func sshError(ctx context.Context, address string, err error) error {
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(errors.Unwrap(err), ErrUnusable): // ours, in the library's words
		return errors.Unwrap(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		err = fmt.Errorf("start the SSH service of the ESXi host: %w", err)
	case strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), refusedLogIn):
		return fmt.Errorf("%w over SSH: %s %w", ErrUnusable, address, errNoLogIn)
	}
	return fmt.Errorf("ssh: %s: %w", address, err)
}

// live asks the host for signs of life, and ends the connection when there is none.
func (s *sshSession) live() {
	for {
		select {
		case <-s.ended:
			return
		case <-time.After(s.alive):
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := s.client.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		select {
		case err := <-answered:
			if err == nil {
				continue
			}
		case <-time.After(s.alive):
		case <-s.ended:
			return
		}
		s.client.Close() // who waits for an answer then hears of it
	}
}

// end closes the connection; l.turn is held.
func (s *sshSession) end() {
	close(s.ended)
	s.client.Close() // its errors are of what is lost
}

// errSlow is a host that does not answer.
var errSlow = errors.New("the host does not answer")

// do has f ask the host; f may go on after that, and touches nothing of the caller's.
func (s *sshSession) do(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	late := time.NewTimer(s.pace.stall)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		s.client.Close()
		return fmt.Errorf("%w within %v", errSlow, s.pace.stall)
	}
}
