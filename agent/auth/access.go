package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// access is the record of all who have access.
type access struct {
	Begun        bool                    `json:"begun"` // somebody has or had access: no first code again
	Code         string                  `json:"code,omitempty"`
	Users        map[string]*user        `json:"users"`        // by name
	Certificates map[string]*certificate `json:"certificates"` // by fingerprint
}

const accessKey = "access"

// snapshot is a record that was read. It is not changed.
type snapshot struct {
	access  *access
	asked   time.Time // before it was read
	changes uint64    // of this appliance, before it was read
}

// fresh is how long a snapshot is used: a change that another appliance makes holds
// here after it.
const fresh = 2 * time.Second

// access is the record, a little old at most.
func (g *Gate) access(ctx context.Context) (*access, error) {
	now, changes := g.now(), g.changes.Load()
	if s := g.current.Load(); s != nil && s.changes == changes {
		if age := now.Sub(s.asked); age >= 0 && age < fresh {
			return s.access, nil
		}
	}
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return nil, err
	}
	g.current.Store(&snapshot{a, now, changes})
	return a, nil
}

func (g *Gate) readAccess(ctx context.Context) (*access, uint64, error) {
	a := &access{}
	revision, err := g.store.Load(ctx, accessKey, a)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, 0, fmt.Errorf("who has access: %w", err)
	}
	if a.Users == nil {
		a.Users = map[string]*user{}
	}
	if a.Certificates == nil {
		a.Certificates = map[string]*certificate{}
	}
	return a, revision, nil
}

// change edits the record, again from the start when another changed it meanwhile.
func (g *Gate) change(ctx context.Context, edit func(*access) error) error {
	for again := range attempts {
		a, revision, err := g.readAccess(ctx)
		if err != nil {
			return err
		}
		if err := edit(a); err != nil {
			return err
		}
		err = g.store.Save(ctx, accessKey, a, revision)
		g.changes.Add(1)
		if !errors.Is(err, ErrChanged) && !errors.Is(err, ErrExists) {
			return err
		}
		pause(ctx, again)
	}
	return ErrChanged
}

// administer has an admin edit the record. Whether they are one is read together with
// what they change, and an admin who can log in stays.
func (g *Gate) administer(ctx context.Context, by Principal, e Entry, edit func(*access) error) error {
	err := g.change(ctx, func(a *access) error {
		if err := a.permits(by, Admin, changeAccess, g.now()); err != nil {
			return err
		}
		had := a.admins()
		if err := edit(a); err != nil {
			return err
		}
		if had > 0 && a.admins() == 0 {
			return ErrLastAdmin
		}
		return nil
	})
	e.Principal = by
	g.record(ctx, e, err)
	return err
}

// permits tells whether a principal may do what needs a role, as the record stands.
func (a *access) permits(by Principal, needed Role, scope Scope, now time.Time) error {
	p, err := a.principal(by.holder, now)
	if err != nil || !p.Allows(needed) || !by.May(needed, scope) {
		return fmt.Errorf("%w: this needs the role %v, and of a token the scope %s", ErrForbidden, needed, scope)
	}
	return nil
}

// admins counts the users who can log in as one. Certificates are not counted: they
// run out.
func (a *access) admins() (n int) {
	for u := range maps.Values(a.Users) {
		if u.Role == Admin && !u.Disabled {
			n++
		}
	}
	return n
}

// holder is whom a session, a token or a principal belongs to: one of a user, a
// certificate, somebody whom another provider vouched for, or a process of this machine.
type holder struct {
	User        string `json:"user,omitempty"`        // name
	ID          string `json:"id,omitempty"`          // of the user: another one of that name is another
	Stamp       string `json:"stamp,omitempty"`       // of the user, in sessions: it changes when they all end
	Certificate string `json:"certificate,omitempty"` // fingerprint
	External    string `json:"external,omitempty"`    // digest of provider and subject
	Name        string `json:"name,omitempty"`        // that the provider gave
	Local       string `json:"local,omitempty"`       // name
	Most        Role   `json:"most"`                  // the role is not above this
}

// principal is whom a holder stands for as the record stands.
func (a *access) principal(h holder, now time.Time) (Principal, error) {
	p := Principal{Role: h.Most, holder: h}
	switch {
	case h.User != "":
		u := a.Users[h.User]
		if u == nil || u.ID != h.ID || u.Disabled || h.Stamp != "" && h.Stamp != u.Stamp {
			return Principal{}, ErrUnauthenticated
		}
		p.Name, p.Role = h.User, min(h.Most, u.Role)
	case h.Certificate != "":
		c := a.Certificates[h.Certificate]
		if c == nil || c.ended(now) {
			return Principal{}, ErrUnauthenticated
		}
		p.Name, p.Role = c.Name, min(h.Most, c.Role)
	case h.External != "":
		p.Name = h.Name
	case h.Local != "":
		p.Name = h.Local
	}
	if p.Name == "" || !p.Role.known() {
		return Principal{}, ErrUnauthenticated
	}
	return p, nil
}

// byHolder is whom a holder stands for now.
func (g *Gate) byHolder(ctx context.Context, h holder) (Principal, error) {
	a, err := g.access(ctx)
	if err != nil {
		return Principal{}, err
	}
	return a.principal(h, g.now())
}
