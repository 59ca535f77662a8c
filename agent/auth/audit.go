package auth

import (
	"context"
	"errors"
	"sync/atomic"
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

// record tells the audit how something ended.
func (g *Gate) record(ctx context.Context, e Entry, err error) {
	e.Outcome = Done
	if err != nil {
		e.Outcome, e.Detail = outcome(err), err.Error()
	}
	g.keep(ctx, e)
}

// keep hands an entry to the audit, also when the one who asked went away.
func (g *Gate) keep(ctx context.Context, e Entry) {
	told(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	e.Time, e.From = g.now().UTC(), e.Principal.From
	e.Target, e.Detail = e.Target[:min(len(e.Target), mostText)], e.Detail[:min(len(e.Detail), mostText)]
	g.audit.Record(ctx, e)
}

// refuse tells of a refusal that a stranger can cause at will, of which one address
// gets a few a minute into the audit.
func (g *Gate) refuse(ctx context.Context, e Entry, err error) {
	told(ctx)
	if g.limits.noise(g.now(), e.Principal.From) {
		g.record(ctx, e, err)
	}
}

// onceKey is where a context has whether something was told to the audit.
type onceKey struct{}

// Once is the context of one request, of which Note records nothing if the gate has.
func Once(ctx context.Context) context.Context {
	return context.WithValue(ctx, onceKey{}, new(atomic.Bool))
}

// told tells whether something was told before, and that it is now.
func told(ctx context.Context) bool {
	t, ok := ctx.Value(onceKey{}).(*atomic.Bool)
	return ok && t.Swap(true)
}

// Note records what was done or refused elsewhere, with its outcome and detail. Of
// refusals that cost a stranger nothing, an address has a few recorded.
func (g *Gate) Note(ctx context.Context, e Entry) {
	if told(ctx) || e.Principal.Name == "" && e.Outcome == Refused && !g.limits.noise(g.now(), e.Principal.From) {
		return
	}
	g.keep(ctx, e)
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
