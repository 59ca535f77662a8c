package auth

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// What callers decide on. Texts say nothing that is secret, nor whether a user exists.
var (
	ErrWrong           = errors.New("the name or the password is wrong")
	ErrUnauthenticated = errors.New("not known, ended or revoked")
	ErrForbidden       = errors.New("not allowed")
	ErrInput           = errors.New("cannot be used")
	ErrLastAdmin       = errors.New("this is the last admin who can log in: make another one first")
	ErrNoCode          = errors.New("the code is wrong, or was used")
	ErrBusy            = errors.New("too many log-ins at once: try again in a few seconds")
)

// TooManyError refuses an attempt that comes too soon.
type TooManyError struct{ After time.Duration }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("too many attempts: wait %v", e.After.Round(time.Second)+time.Second)
}

// Gate answers who may do what. It may be used by many at once.
type Gate struct {
	store   Records
	audit   Audit
	now     func() time.Time
	hash    *hasher
	limits  *limits
	current atomic.Pointer[snapshot]
	changes atomic.Uint64 // of access, by this gate
}

// New is a gate to what the store holds. Audit hears of every change and every refusal.
// Now is the clock, time.Now but in tests.
func New(store Store, audit Audit, now func() time.Time) *Gate {
	return &Gate{store: Records{store}, audit: audit, now: now, hash: newHasher(), limits: newLimits()}
}
