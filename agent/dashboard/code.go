package dashboard

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
)

// Actions of the audit, by the words of agent/auth.
const codeMade = "code.make"

// code keeps the first admin's code up to date. One is made without being asked for if
// none was since this machine was booted: whoever has made one, on another screen or with
// hyper2kvm code, may be about to use it.
func (w *Watcher) code(ctx context.Context) {
	was := w.status().Code
	if was.State == CodeNone {
		return
	}
	ctx, cancel := within(ctx)
	defer cancel()
	if begun, err := begun(ctx, w.conn); err != nil || begun {
		w.setCode(Code{State: CodeNone}, err)
		return
	}
	last, err := lastMade(ctx, w.conn)
	switch {
	case err != nil:
	case was.State == CodeMade && last.Number > was.entry, was.State == CodeUnknown && last.Time.After(booted()):
		w.setCode(Code{State: CodeElsewhere}, nil)
	case was.State == CodeUnknown:
		w.setCode(newCode(ctx, w.conn))
	}
}

// setCode notes how the code stands, unless that could not be found out.
func (w *Watcher) setCode(c Code, err error) {
	if err == nil {
		w.set(func(s *Status) { s.Code = c })
	}
}

// NewCode makes another code, which makes those before worthless.
func (w *Watcher) NewCode(ctx context.Context) error {
	conn, err := client.New("unix:"+w.options.Socket, client.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx)
	defer cancel()
	c, err := newCode(ctx, conn)
	w.setCode(c, err)
	return err
}

// newCode makes a code, and finds the entry of the audit that tells of it.
func newCode(ctx context.Context, conn *client.Conn) (Code, error) {
	text, err := conn.FirstCode(ctx)
	if refusal, ok := errors.AsType[*client.Refusal](err); ok && refusal.Status == http.StatusConflict {
		return Code{State: CodeNone}, nil
	}
	if err != nil {
		return Code{}, err
	}
	last, err := lastMade(ctx, conn)
	return Code{State: CodeMade, Text: text, entry: last.Number}, err
}

// begun tells whether somebody has access already.
func begun(ctx context.Context, conn *client.Conn) (bool, error) {
	users, err := conn.Users(ctx)
	if err != nil || len(users) > 0 {
		return err == nil, err
	}
	certificates, err := conn.Certificates(ctx)
	return err == nil && len(certificates) > 0, err
}

// lastMade is the entry of the code that was made last; the zero AuditEntry if it is not
// among the last ones.
func lastMade(ctx context.Context, conn *client.Conn) (model.AuditEntry, error) {
	entries, err := conn.Audit(ctx)
	if err != nil {
		return model.AuditEntry{}, err
	}
	for _, e := range entries {
		if e.Action == codeMade && e.Outcome == model.AuditEntryOutcomeDone {
			return e, nil
		}
	}
	return model.AuditEntry{}, nil
}

// booted is when this machine was.
func booted() time.Time {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return time.Time{} // then another one's code is not made worthless
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second)
}
