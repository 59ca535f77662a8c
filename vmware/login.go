package vmware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// loginIn is how long a log-in or a log-out may take; grace is how long one is waited
// for whose caller has gone.
const (
	loginIn = 30 * time.Second
	grace   = 5 * time.Second
)

// aliveEvery is how often a session is used at least. Servers end those that were idle
// for 30 minutes, unless they are configured otherwise. It is a variable for tests alone.
//
// Source: VMware docs, "vSphere Web Services SDK Programming Guide", sessions;
// config.vmacore.soap.sessionTimeout.
var aliveEvery = 5 * time.Minute

var errClosed = errors.New("the session at the server was closed")

// outlive is a context for what must not be left half done: it goes on for a grace
// after its parent has ended, or to its own end without one.
func outlive(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(parent), loginIn, errSilent)
	if grace == 0 {
		return ctx, cancel
	}
	stop := context.AfterFunc(parent, func() { time.AfterFunc(grace, cancel) })
	return ctx, func() { stop(); cancel() }
}

// again logs in, unless somebody has since the log-in with the number that was seen.
// A log-in that the server refused is the last one.
func (s *Session) again(ctx context.Context, seen int64) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return s.peer.unreachable(ctx, context.Cause(ctx))
	}
	switch {
	case s.refused != nil:
		return s.refused
	case s.closed:
		return errClosed
	case s.logins.Load() != seen:
		return nil
	}
	return s.logIn(ctx)
}

// logIn is for who has the turn. The answer is waited for also if the caller goes: who
// does not hear it cannot log out.
func (s *Session) logIn(ctx context.Context) error {
	waiting, cancel := outlive(ctx, grace)
	defer cancel()
	answer, err := methods.Login(waiting, s, &types.Login{
		This:     *s.client.ServiceContent.SessionManager,
		UserName: s.config.User,
		Password: string(s.config.Password),
		Locale:   "en_US",
	})
	if err == nil {
		s.key.Store(&answer.Returnval.Key)
		s.logins.Add(1)
		return nil
	}
	if s.refused = s.refusal(err); s.refused != nil {
		return s.refused
	}
	return s.peer.unreachable(ctx, err)
}

// refusal says why the server will not have the user; nil if it is something else.
//
// Source: vSphere Web Services API, SessionManager.Login: InvalidLogin for a user and a
// password that do not fit, NoPermission for a user without access; PasswordExpired
// since 6.7.2. Locking: VMware docs, "ESXi Passwords and Account Lockout" (5 attempts,
// 15 minutes), and vCenter Single Sign-On's lockout policy (5 attempts, 5 minutes).
func (s *Session) refusal(err error) error {
	user, host := s.config.User, s.peer.host()
	switch {
	case fault.Is(err, &types.PasswordExpired{}):
		return &sentence{fmt.Sprintf("%v: the password of %s at %s has expired: set a new one there, and give it here", ErrLogin, user, host), []error{ErrLogin, err}}
	case fault.Is(err, &types.InvalidLogin{}):
		return &sentence{fmt.Sprintf("%v: %s does not know %s with this password, or has locked the account after wrong ones (for 5 to 15 minutes): check both%s; it is not tried again", ErrLogin, host, user, s.domain()), []error{ErrLogin, err}}
	case fault.Is(err, &types.NoPermission{}) && !notAuthenticated(err):
		return &sentence{fmt.Sprintf("%v: %s is right, but has no role on anything at %s: give it one (docs/vsphere-calls.md)", ErrPrivilege, user, host), []error{ErrPrivilege, err}}
	}
	return nil
}

// domain reminds of what users of vCenter forget.
func (s *Session) domain() string {
	for _, r := range s.config.User {
		if r == '@' || r == '\\' {
			return ""
		}
	}
	if s.VCenter() {
		return fmt.Sprintf("; vCenter wants the domain too, such as %s@vsphere.local", s.config.User)
	}
	return ""
}

func logout(c *vim25.Client) *types.Logout {
	return &types.Logout{This: *c.ServiceContent.SessionManager}
}

// keepAlive uses the session from time to time, until what it returns is called.
func (s *Session) keepAlive() func() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(aliveEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				// What is wrong, the next real call will say.
				_, _ = methods.GetCurrentTime(ctx, s)
			}
		}
	}()
	return func() { cancel(); <-ended }
}
