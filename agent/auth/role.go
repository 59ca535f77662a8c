package auth

import (
	"fmt"
	"slices"
)

// Role is what somebody may do. Each may do what those before it may.
type Role int

// The roles. Nobody is the zero value, and may do nothing.
const (
	Nobody Role = iota
	Viewer
	Operator
	Admin
)

var roles = []string{"nobody", "viewer", "operator", "admin"}

// ParseRole reads viewer, operator or admin.
func ParseRole(text string) (Role, error) {
	if i := slices.Index(roles, text); i > 0 {
		return Role(i), nil
	}
	return Nobody, fmt.Errorf("%w: a role is viewer, operator or admin", ErrInput)
}

// Allows tells whether a role may do what needs another one.
func (r Role) Allows(needed Role) bool { return r >= needed && r.known() && needed.known() }

func (r Role) known() bool { return r >= Viewer && r <= Admin }

func (r Role) String() string {
	if r.known() {
		return roles[r]
	}
	return roles[Nobody]
}

// MarshalText writes a role as it is read.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes, nobody too.
func (r *Role) UnmarshalText(text []byte) (err error) {
	if string(text) == roles[Nobody] {
		*r = Nobody
		return nil
	}
	*r, err = ParseRole(string(text))
	return err
}
