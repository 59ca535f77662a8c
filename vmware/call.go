package vmware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// How a call is said again. They are variables for tests alone.
var (
	// untilLost is how long a server that does not answer is asked for.
	untilLost = 2 * time.Minute
	// answerIn is how long one answer may take to a call that can be repeated.
	answerIn = 5 * time.Minute
	// firstPause grows to lastPause.
	firstPause = 500 * time.Millisecond
	lastPause  = 15 * time.Second
	// said hears of every call.
	said = func(method string) {}
)

// RoundTrip says a call to the server. If the server has ended the session, it is made
// anew and the call said again: it was not carried out. If the server or the network
// fails for a time, it is said again if it may be carried out twice, or surely was not.
func (s *Session) RoundTrip(ctx context.Context, request, answer soap.HasFault) error {
	err := s.persist(ctx, mostRenewals, request, answer)
	if notAuthenticated(err) && methodOf(request) != "Logout" {
		err = s.ending(err)
	}
	return err
}

// mostRenewals is how often a session is made anew for one call.
const mostRenewals = 3

// fleeting says calls about what ends with the log-in: a view, further pages. If the
// server has ended the session, it is made anew, and the call ends with the server's
// fault: said again, it could only fail.
type fleeting struct{ *Session }

func (f fleeting) RoundTrip(ctx context.Context, request, answer soap.HasFault) error {
	return f.persist(ctx, 0, request, answer)
}

// persist says a call until it is answered, in as many new sessions at most.
func (s *Session) persist(ctx context.Context, sessions int, request, answer soap.HasFault) error {
	method := methodOf(request)
	said(method)
	began, renewals := time.Now(), 0
	var before error
	for try := 0; ; try++ {
		seen := s.logins.Load()
		err := s.say(ctx, method, request, answer)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return tired(ctx, before)
		case notAuthenticated(err) && method != "Login" && method != "Logout":
			if again := s.again(ctx, seen); again != nil {
				return again
			}
			if renewals++; renewals <= sessions {
				err = nil
			}
		case s.worthwhile(method, err) && time.Since(began) < untilLost:
			before = err
			if pause(ctx, try) != nil {
				return tired(ctx, before)
			}
			err = nil
		}
		if err != nil {
			return err
		}
		reflect.ValueOf(answer).Elem().SetZero()
	}
}

// tired is why no more is tried: the caller's reason, and what was wrong before.
func tired(ctx context.Context, before error) error {
	if before == nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w; before: %w", context.Cause(ctx), before)
}

// methodOf is a call's name as the API has it.
func methodOf(request soap.HasFault) string {
	return strings.TrimSuffix(reflect.TypeOf(request).Elem().Name(), "Body")
}

// say says a call once.
func (s *Session) say(ctx context.Context, method string, request, answer soap.HasFault) error {
	if known[method].Repeat && method != "WaitForUpdatesEx" { // which answers when something happens
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerIn)
		defer cancel()
	}
	err := s.soap.RoundTrip(ctx, request, answer)
	if err == nil && reflect.ValueOf(answer).Elem().FieldByName("Res").IsNil() {
		return fmt.Errorf("%s: %w", method, errStrange)
	}
	return err
}

// worthwhile is whether a call that failed may be said again, and may fare better. Who
// connects is told at once where nothing listens.
func (s *Session) worthwhile(method string, err error) bool {
	var doubt *untrusted
	connecting := s.logins.Load() == 0
	switch {
	case errors.As(err, &doubt), connecting && foreign(err):
		return false
	case unsent(err):
		return !connecting
	}
	c := known[method]
	looks := c.For == ForInventory // it changes nothing but what the session has of its own
	return c.Repeat && temporary(err) || looks && declined(err)
}

// declined is whether the server, or what stands before it, has not taken a call.
func declined(err error) bool {
	return answered(err, http.StatusServiceUnavailable) || answered(err, http.StatusTooManyRequests)
}

// answered tells whether the server gave this status instead of an answer.
func answered(err error, code int) bool {
	var got status
	return errors.As(err, &got) && int(got) == code
}

// foreign is an answer that came and has no end, or no beginning: of a VMware server it
// was cut, of any other server it is what it sends.
func foreign(err error) bool {
	var lost *url.Error
	return errors.Is(err, io.EOF) && !errors.As(err, &lost)
}

// unsent is whether a call surely did not reach the server.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect")
}

// temporary is whether the server or the network may soon be well.
func temporary(err error) bool {
	var code status
	var timeout net.Error
	var syntax *xml.SyntaxError
	switch {
	case errors.As(err, &code):
		return code == http.StatusServiceUnavailable || code == http.StatusBadGateway || code == http.StatusGatewayTimeout || code == http.StatusTooManyRequests
	case errors.As(err, &syntax):
		return syntax.Msg == "unexpected EOF"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return true
	}
	return strings.Contains(err.Error(), "server closed idle connection") // net/http has no name for it
}

// pause waits before the next try, each time longer, and not at the same moment as others.
func pause(ctx context.Context, try int) error {
	d := min(firstPause<<min(try, 10), lastPause)
	select {
	case <-time.After(d/2 + rand.N(d/2+1)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// notAuthenticated is whether the server knows no such session.
func notAuthenticated(err error) bool { return fault.Is(err, &types.NotAuthenticated{}) }
