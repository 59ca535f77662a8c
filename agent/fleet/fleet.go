// Package fleet lets appliances work as one: it says who belongs, proves it with
// certificates of the fleet's own, and lets others in by tokens that are used once.
//
// Words:
//
//   - Fleet: appliances that share their migrations.
//   - Voting: an appliance that keeps what the fleet knows: the hub, or one of 3 or 5.
//     Worker: one that joins those.
//   - Authority: the key that signs the fleet's certificates. Voting appliances have it.
//   - Member: this appliance's certificate, its key, and whom it trusts.
//   - Invitation: says that one appliance may join; its token goes to that one.
//   - Removed: a key that is not let in any more, though its certificate still lasts.
//
// Appliances meet over TLS 1.3, and both sides show a certificate. One of a worker is for
// clients alone, so that a worker cannot stand in for a hub, nor vote. A certificate lasts
// 30 days and is renewed when a third of them is over, for the key that it is for: who
// takes a copy of a disk away has a key that works until it is removed, or until 30 days
// after the appliance itself was last in touch.
//
// What is trusted: a voting appliance with all, a worker with the migrations, and with
// what its API needs to let people in (users, tokens, sealed secrets and the keys that
// open them). A worker cannot let others in, nor take a removal back.
package fleet

import (
	"errors"
	"fmt"
	"time"
)

// Role is what an appliance is to its fleet.
type Role string

// The roles.
const (
	Voting Role = "voting"
	Worker Role = "worker"
)

func (r Role) check() error {
	if r != Voting && r != Worker {
		return fmt.Errorf("%w: an appliance's role is worker or voting", ErrInput)
	}
	return nil
}

// How long things last.
const (
	life          = 30 * 24 * time.Hour // a certificate
	renewed       = life / 3            // its age when it is renewed
	authorityLife = 20 * 365 * 24 * time.Hour
	skew          = time.Hour // by which appliances' clocks may differ

	// DefaultInvitation and LongestInvitation are how long a token may be used.
	DefaultInvitation = 24 * time.Hour
	LongestInvitation = 7 * 24 * time.Hour
	remembered        = 30 * 24 * time.Hour // that a token was used, or has run out
)

// Errors that callers decide on.
var (
	ErrInput    = errors.New("cannot be used")
	ErrToken    = errors.New("the token does not let in")
	ErrWorker   = errors.New("this appliance is a worker: ask its hub, or one that votes")
	ErrAlone    = errors.New("this appliance is in no fleet yet")
	ErrUnknown  = errors.New("no such appliance in the fleet")
	ErrThere    = errors.New("the appliance is there, and works")
	ErrRefused  = errors.New("the fleet does not let this appliance in")
	ErrNotFleet = errors.New("not a hub of a fleet")
)
