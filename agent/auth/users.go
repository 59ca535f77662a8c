package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// user is what is kept of one.
type user struct {
	ID       string    `json:"id"`
	Role     Role      `json:"role"`
	Hash     string    `json:"hash"`
	Disabled bool      `json:"disabled,omitempty"`
	Stamp    string    `json:"stamp"` // of all sessions that are to go on
	Created  time.Time `json:"created"`
	Password time.Time `json:"password"` // when it was set
}

// User is what is shown of one.
type User struct {
	Name     string
	Role     Role
	Disabled bool
	Created  time.Time
	Password time.Time // when it was set
}

const most = 256 // users, and certificates

var userName = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,62}$`)

func checkName(name string) error {
	if !userName.MatchString(name) {
		return fmt.Errorf("%w: a name is a letter of a-z, then at most 62 of a-z, 0-9, dot, - and _", ErrInput)
	}
	return nil
}

func errUser(err error) error { return fmt.Errorf("the user %w", err) }

// Users lists all users by name. It needs an admin; all others see themselves.
func (g *Gate) Users(ctx context.Context, by Principal) ([]User, error) {
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return nil, err
	}
	all := a.permits(by, Admin, readAccess, g.now()) == nil
	var list []User
	for name, u := range a.Users {
		if all || by.holder.User == name {
			list = append(list, User{name, u.Role, u.Disabled, u.Created, u.Password})
		}
	}
	slices.SortFunc(list, func(a, b User) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// CreateUser adds a user.
func (g *Gate) CreateUser(ctx context.Context, by Principal, name string, role Role, password string) error {
	return g.withPassword(ctx, by, Entry{Action: "user.create", Target: name, Detail: role.String()}, name, password, func(a *access, hash string) error {
		return a.add(name, role, hash, g.now())
	})
}

// add puts a new user into the record.
func (a *access) add(name string, role Role, hash string, now time.Time) error {
	switch {
	case a.Users[name] != nil:
		return errUser(ErrExists)
	case len(a.Users) >= most:
		return fmt.Errorf("%w: there are %d users, and no room for more", ErrInput, most)
	case !role.known():
		return fmt.Errorf("%w: a user needs a role", ErrInput)
	}
	a.Begun, a.Code = true, ""
	a.Users[name] = &user{ID: random(), Role: role, Hash: hash, Stamp: random(), Created: now.UTC(), Password: now.UTC()}
	return nil
}

// SetPassword gives a user another password, and ends their sessions. For one's own
// there is ChangePassword, which wants to see the current one.
func (g *Gate) SetPassword(ctx context.Context, by Principal, name, password string) error {
	return g.withPassword(ctx, by, Entry{Action: "user.password", Target: name}, name, password, func(a *access, hash string) error {
		u := a.Users[name]
		switch {
		case u == nil:
			return errUser(ErrNotFound)
		case by.holder.User == name:
			return fmt.Errorf("%w: one's own password is changed with the current one", ErrForbidden)
		}
		u.renew(hash, g.now())
		return nil
	})
}

// renew sets a password, and ends all sessions.
func (u *user) renew(hash string, now time.Time) {
	u.Hash, u.Password, u.Stamp = hash, now.UTC(), random()
}

// withPassword edits the record with the hash of a new password, which is made only for
// an admin and of a good password.
func (g *Gate) withPassword(ctx context.Context, by Principal, e Entry, name, password string, edit func(a *access, hash string) error) error {
	hash, err := g.newHash(ctx, by, name, password)
	if err != nil {
		e.Principal = by
		g.record(ctx, e, err)
		return err
	}
	return g.administer(ctx, by, e, func(a *access) error { return edit(a, hash) })
}

func (g *Gate) newHash(ctx context.Context, by Principal, name, password string) (string, error) {
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return "", err
	}
	if err := a.permits(by, Admin, changeAccess, g.now()); err != nil {
		return "", err
	}
	return g.hashNew(ctx, name, password)
}

// hashNew is what is kept of a new password, if name and password may be used.
func (g *Gate) hashNew(ctx context.Context, name, password string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if err := checkPassword(name, password); err != nil {
		return "", err
	}
	return g.hash.keep(ctx, password)
}

// SetRole changes what a user may do, also in the sessions that they have and with
// their tokens.
func (g *Gate) SetRole(ctx context.Context, by Principal, name string, role Role) error {
	return g.editUser(ctx, by, Entry{Action: "user.role", Target: name, Detail: role.String()}, func(u *user) error {
		if !role.known() {
			return fmt.Errorf("%w: a user needs a role", ErrInput)
		}
		u.Role = role
		return nil
	})
}

// DisableUser keeps a user, their sessions and tokens out.
func (g *Gate) DisableUser(ctx context.Context, by Principal, name string) error {
	return g.editUser(ctx, by, Entry{Action: "user.disable", Target: name}, func(u *user) error {
		u.Disabled, u.Stamp = true, random()
		return nil
	})
}

// EnableUser lets a user in again. Their sessions have ended; their tokens count again.
func (g *Gate) EnableUser(ctx context.Context, by Principal, name string) error {
	return g.editUser(ctx, by, Entry{Action: "user.enable", Target: name}, func(u *user) error {
		u.Disabled = false
		return nil
	})
}

// EndSessions logs a user out everywhere.
func (g *Gate) EndSessions(ctx context.Context, by Principal, name string) error {
	return g.editUser(ctx, by, Entry{Action: "user.logout", Target: name}, func(u *user) error {
		u.Stamp = random()
		return nil
	})
}

// RemoveUser removes a user. Their sessions and tokens end, also for one of that name
// who is made later.
func (g *Gate) RemoveUser(ctx context.Context, by Principal, name string) error {
	return g.administer(ctx, by, Entry{Action: "user.remove", Target: name}, func(a *access) error {
		if a.Users[name] == nil {
			return errUser(ErrNotFound)
		}
		delete(a.Users, name)
		return nil
	})
}

func (g *Gate) editUser(ctx context.Context, by Principal, e Entry, edit func(*user) error) error {
	return g.administer(ctx, by, e, func(a *access) error {
		u := a.Users[e.Target]
		if u == nil {
			return errUser(ErrNotFound)
		}
		return edit(u)
	})
}

// random is 128 bits that nobody can guess.
func random() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
