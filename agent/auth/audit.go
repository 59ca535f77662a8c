package auth

import (
	"context"
	"errors"
	"time"
)

// Audit keeps what was done. The gate waits for Record, 5 seconds at most if it heeds
// its context. An implementation that cannot keep an entry logs it as an error.
type Audit interface {
	Record(ctx context.Context, e Entry)
}

// Entry is one thing that was done or refused. It holds no secret: no password, code,
// token or session, nor the name that an unknown person typed, which may be a password.
type Entry struct {
	Time      time.Time `json:"time"`
	Principal Principal `json:"principal"` // who did it; without a name before a log-in
	From      string    `json:"from"`      // address
	Action    string    `json:"action"`    // a stable word, such as user.create
	Target    string    `json:"target"`    // what it was done to: a user's, token's or certificate's name
	Outcome   Outcome   `json:"outcome"`
	Detail    string    `json:"detail"`
}

// Outcome is how it ended.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused" // by a rule
	Failed  Outcome = "failed"  // for a cause, such as a store that does not answer
)

const (
	recordTime = 5 * time.Second
	mostText   = 300 // bytes
)

// record tells the audit how something ended, also when the one who asked went away.
func (g *Gate) record(ctx context.Context, e Entry, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	e.Time, e.From, e.Outcome = g.now().UTC(), e.Principal.From, Done
	if err != nil {
		e.Outcome, e.Detail = outcome(err), err.Error()
	}
	e.Target, e.Detail = e.Target[:min(len(e.Target), mostText)], e.Detail[:min(len(e.Detail), mostText)]
	g.audit.Record(ctx, e)
}

// refuse tells of a refusal that a stranger can cause at will, of which one address
// gets a few a minute into the audit.
func (g *Gate) refuse(ctx context.Context, e Entry, err error) {
	if g.limits.noise(g.now(), e.Principal.From) {
		g.record(ctx, e, err)
	}
}

// refusals are of rules; every other error is a failure.
var refusals = []error{ErrWrong, ErrUnauthenticated, ErrForbidden, ErrInput, ErrLastAdmin, ErrNoCode, ErrBusy, ErrExists, ErrNotFound}

func outcome(err error) Outcome {
	var many *TooManyError
	if errors.As(err, &many) {
		return Refused
	}
	for _, rule := range refusals {
		if errors.Is(err, rule) {
			return Refused
		}
	}
	return Failed
}
