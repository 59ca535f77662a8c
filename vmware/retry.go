package vmware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// tries is how often a question is asked whose objects went with a log-in.
const tries = 3

// retry asks again when the log-in ended in between: views, collectors and the tokens
// of further pages end with it. What asks must begin anew.
func (s *Session) retry(ctx context.Context, ask func() error) error {
	var err error
	for n := range tries {
		seen := s.logins.Load()
		if err = ask(); err == nil || !lost(err) {
			return err
		}
		if wait(ctx, time.Duration(n)*time.Second) != nil {
			return context.Cause(ctx)
		}
		// What went did so with the log-in that it was made in: if that is still the last
		// one, the server has ended it.
		if err := s.again(ctx, seen); err != nil {
			return err
		}
	}
	return s.ending(err)
}

// ending is a server that ends each log-in soon after it was made, with what to do.
//
// Source: vSphere Web Services API, SessionManager.TerminateSession and SessionTerminatedEvent.
func (s *Session) ending(err error) error {
	if errors.Is(err, ErrSession) {
		return err
	}
	return &sentence{fmt.Sprintf("%v: %s ended the log-in of %s right after it was made, each time that it was tried: it restarts, or somebody ends sessions there, which vCenter's events tell; wait until that is over, or take a user that nobody else logs in as, and give the same command again",
		ErrSession, s.peer.host(), s.config.User), []error{ErrSession, err}}
}

// lost tells whether an error comes of a log-in that ended.
func lost(err error) bool {
	if fault.Is(err, &types.NotAuthenticated{}) {
		return true
	}
	var property *types.InvalidProperty
	if _, ok := fault.As(err, &property); ok && property.Name == "token" {
		return true
	}
	gone, ok := goneObject(err)
	return ok && ofSession[gone.Type]
}

// unread is the error of a page whose objects keep their properties back because the
// log-in ended: some servers say so of each property, and not of the call.
func unread(page []types.ObjectContent) error {
	for _, o := range page {
		for _, m := range o.MissingSet {
			if no, ok := m.Fault.Fault.(*types.NotAuthenticated); ok {
				return soap.WrapVimFault(no)
			}
		}
	}
	return nil
}

// ofSession are the types of objects that end with the log-in that made them.
var ofSession = map[string]bool{"ContainerView": true, "ListView": true, "PropertyCollector": true, "PropertyFilter": true}

// goneObject is what an error says is not there any more.
func goneObject(err error) (ref, bool) {
	var gone *types.ManagedObjectNotFound
	if _, ok := fault.As(err, &gone); ok {
		return gone.Obj, true
	}
	return ref{}, false
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
