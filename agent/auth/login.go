package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Login begins a session with a password. From is the address of the one who asks, or
// the zero value if there is none. Whether the user is not there, disabled, or has
// another password cannot be told from outside, neither by the error nor by the time:
// one password is hashed for each. ErrWrong, ErrBusy and TooManyError are for the one
// who asks; other errors are of the store.
func (g *Gate) Login(ctx context.Context, from netip.Addr, name, password string) (Session, error) {
	e := Entry{Principal: Principal{From: address(from)}, Action: "login"}
	try, err := g.limits.begin(g.now(), from, name)
	if err != nil {
		g.refuse(ctx, e, err)
		return Session{}, err
	}
	known, err := g.password(ctx, name, password)
	try.ended(g.now(), err)
	if known {
		e.Target = name
	}
	if err != nil {
		g.record(ctx, e, err)
		return Session{}, plainly(err)
	}
	s, err := g.enter(ctx, from, name)
	e.Principal = s.Principal
	e.Principal.From = address(from)
	g.record(ctx, e, err)
	return s, err
}

// plainly is an error for the one who asked, without what is for the audit alone.
func plainly(err error) error {
	if errors.Is(err, ErrWrong) {
		return ErrWrong
	}
	return err
}

// password tells whether a user is there, and an error if the password is not theirs or
// they are disabled.
func (g *Gate) password(ctx context.Context, name, password string) (known bool, err error) {
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return false, err
	}
	if tooLong(password) {
		return a.Users[name] != nil, ErrWrong
	}
	u := a.Users[name]
	kept := decoy
	if u != nil {
		kept = u.Hash
	}
	fits, err := g.hash.fits(ctx, kept, password)
	switch {
	case err != nil:
		return u != nil, err
	case u == nil || !fits:
		return u != nil, ErrWrong
	case u.Disabled:
		return true, fmt.Errorf("%w (the user is disabled)", ErrWrong)
	}
	return true, nil
}

// enter begins a session of a user who has proved who they are.
func (g *Gate) enter(ctx context.Context, from netip.Addr, name string) (Session, error) {
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return Session{}, err
	}
	u := a.Users[name]
	if u == nil || u.Disabled {
		return Session{}, ErrWrong
	}
	return g.begin(ctx, from, holder{User: name, ID: u.ID, Stamp: u.Stamp, Most: Admin})
}

// ChangePassword changes one's own password, from a session. All sessions end; the one
// that is returned takes the place of the one that asked.
func (g *Gate) ChangePassword(ctx context.Context, by Principal, current, password string) (Session, error) {
	e := Entry{Principal: by, Action: "user.password", Target: by.Name}
	name, from := by.holder.User, from(by)
	if by.By != BySession || name == "" {
		g.record(ctx, e, ErrForbidden)
		return Session{}, ErrForbidden
	}
	try, err := g.limits.begin(g.now(), from, name)
	if err != nil {
		g.refuse(ctx, e, err)
		return Session{}, err
	}
	_, err = g.password(ctx, name, current)
	try.ended(g.now(), err)
	if err == nil {
		err = g.renew(ctx, by, password)
	}
	g.record(ctx, e, err)
	if err != nil {
		return Session{}, plainly(err)
	}
	return g.enter(ctx, from, name)
}

// renew sets a password, if the session that asked still holds when it is set.
func (g *Gate) renew(ctx context.Context, by Principal, password string) error {
	hash, err := g.hashNew(ctx, by.holder.User, password)
	if err != nil {
		return err
	}
	return g.change(ctx, func(a *access) error {
		if _, err := a.principal(by.holder, g.now()); err != nil {
			return err
		}
		a.Users[by.holder.User].renew(hash, g.now())
		return nil
	})
}

func from(p Principal) netip.Addr {
	addr, _ := netip.ParseAddr(p.From)
	return addr
}
