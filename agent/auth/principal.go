package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// By is how somebody has proved who they are.
type By string

// The ways.
const (
	BySession     By = "session"
	ByToken       By = "token"
	ByCertificate By = "certificate"
	BySocket      By = "socket"
)

// Principal is somebody who has proved who they are. It holds for one request: what
// lasts longer asks Recheck.
type Principal struct {
	Name   string    `json:"name,omitempty"`
	Role   Role      `json:"role,omitzero"`
	By     By        `json:"by,omitempty"`
	From   string    `json:"-"`                // the address that they come from
	Scopes []Scope   `json:"scopes,omitempty"` // of a token
	Until  time.Time `json:"-"`                // when it ends by itself; zero: it does not

	key    string // of the session's or the token's record
	holder holder
}

// Allows tells whether the role is enough. For tokens ask May.
func (p Principal) Allows(needed Role) bool { return p.Role.Allows(needed) }

// May tells whether the role is enough, and a token's scopes hold what is to be done.
func (p Principal) May(needed Role, scope Scope) bool {
	return p.Allows(needed) && (p.By != ByToken || covers(p.Scopes, scope))
}

// Local is a principal who came over the Unix socket. The caller has checked whose
// process that is.
func Local(name string, role Role) Principal {
	return Principal{Name: name, Role: role, By: BySocket, holder: holder{Local: name, Most: role}}
}

// Recheck tells whether a principal would still get in, with the same role, for what
// lasts longer than a request, such as a stream of events. It does not keep a session
// from idling.
func (g *Gate) Recheck(ctx context.Context, p Principal) error {
	var now Principal
	var err error
	switch p.By {
	case BySocket:
		return nil
	case BySession:
		now, err = g.bySession(ctx, p.key, nil)
	case ByToken:
		now, err = g.byToken(ctx, p.key, nil)
	default:
		now, err = g.byHolder(ctx, p.holder)
	}
	if err != nil {
		return err
	}
	if now.Role < p.Role || !p.Until.IsZero() && !g.now().Before(p.Until) {
		return ErrUnauthenticated
	}
	return nil
}

// Scope is what a token is for: a resource, and read or write, such as events:read.
// Writing holds reading. A token without scopes may do all that its role may, but for
// access:write, which has to be named: users and certificates that a stolen token made
// would outlive it. Tokens make no tokens.
type Scope string

// Resources are what scopes name.
var Resources = []string{"migrations", "events", "storages", "appliance", "secrets", "access", "audit"}

const (
	changeAccess Scope = "access:write"
	readAccess   Scope = "access:read"
)

// ParseScope reads a scope.
func ParseScope(text string) (Scope, error) {
	resource, verb, _ := strings.Cut(text, ":")
	if slices.Contains(Resources, resource) && (verb == "read" || verb == "write") {
		return Scope(text), nil
	}
	return "", fmt.Errorf("%w: a scope is one of %s, with :read or :write", ErrInput, strings.Join(Resources, ", "))
}

func covers(have []Scope, needed Scope) bool {
	if len(have) == 0 {
		return needed != changeAccess
	}
	resource, _ := strings.CutSuffix(string(needed), ":read")
	return slices.Contains(have, needed) || slices.Contains(have, Scope(resource+":write"))
}
