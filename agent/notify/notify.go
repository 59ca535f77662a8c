// Package notify tells people and programs what becomes of migrations, by mail and by
// webhooks. It never holds a migration up, and keeps nothing: who hands it a message
// knows by what it returns whether to hand it on again, and when.
//
// Message: one thing that happened. Receiver: who is told.
package notify

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
)

// How hard it is tried.
const (
	tries   = 30              // of one message, over about two hours
	atLeast = time.Second     // between the first and the second
	atMost  = 5 * time.Minute // between any two
	aTry    = time.Minute     // how long one may take
)

// Message is what happened. It is what webhooks are sent, as JSON.
type Message struct {
	ID        string        `json:"id"` // of this message, also when it comes again; letters, digits, hyphens and dots
	Time      time.Time     `json:"time"`
	Appliance string        `json:"appliance"`
	Migration model.ID      `json:"migration"`
	Name      string        `json:"name"`
	State     model.State   `json:"state"` // that it came into
	Verdict   model.Verdict `json:"verdict,omitempty"`
	Detail    string        `json:"detail,omitempty"` // what happened, for people
	Try       string        `json:"try,omitempty"`    // what to do about it
}

// Secret is a sealed secret by its name. It is asked each time, so that one may be
// changed while the agent runs.
type Secret func(name string) ([]byte, error)

// Receiver is one that is told.
type Receiver struct {
	Name   string // letters, digits and hyphens
	events []model.State
	send   func(context.Context, Message) error
	log    *slog.Logger
}

// Receivers are those of the settings.
func Receivers(s config.Notify, secret Secret, log *slog.Logger) (all []*Receiver) {
	for _, w := range s.Webhooks {
		all = append(all, &Receiver{"webhook-" + w.Name, w.Events, hook{w, secret}.send, log})
	}
	if s.Mail != nil {
		all = append(all, &Receiver{"mail", s.Mail.Events, mailer{Mail: *s.Mail, secret: secret}.send, log})
	}
	return all
}

// Tell tells a message once, for the so many-th time, from 1 on, if the receiver wants
// it. It returns after how long to tell it again: zero if it is told, or is given up,
// which stands in the log. What ctx has cut short is to be told again.
func (r *Receiver) Tell(ctx context.Context, m Message, try int) (again time.Duration) {
	if !slices.Contains(r.events, m.State) {
		return 0
	}
	err := r.try(ctx, m)
	_, lasting := errors.AsType[*lastingError](err)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return atLeast
	case lasting || try >= tries:
		r.log.Warn("somebody was not notified", "receiver", r.Name, "migration", m.Migration, "state", m.State, "err", err)
		return 0
	}
	again = max(pause(try), min(afterOf(err), atMost))
	r.log.Debug("notifying again", "receiver", r.Name, "migration", m.Migration, "try", try, "wait", again, "err", err)
	return again
}

var errSlow = errors.New("the receiver took too long")

func (r *Receiver) try(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeoutCause(ctx, aTry, errSlow)
	defer cancel()
	return r.send(ctx, m)
}

// pause is twice as long after each try.
func pause(try int) time.Duration { return min(atLeast<<min(try-1, 10), atMost) }

// lastingError is one that the same message would meet again.
type lastingError struct{ error }

func (e *lastingError) Unwrap() error { return e.error }
