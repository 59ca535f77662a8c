// Package notify tells people and programs what becomes of migrations, by mail and by
// webhooks. It never holds a migration up: what cannot be told now waits in a bounded
// queue, is tried again, and is given up with a line in the log.
//
// Message: one thing that happened. Receiver: who is told, with a queue of its own.
package notify

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
)

// How hard it is tried.
const (
	queued  = 256             // messages that wait for a receiver; of more the oldest are given up
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

// Notifier tells receivers.
type Notifier struct {
	receivers []*receiver
	log       *slog.Logger
	pause     func(try int) time.Duration
}

// New makes a notifier of the settings.
func New(s config.Notify, secret Secret, log *slog.Logger) *Notifier {
	n := &Notifier{log: log, pause: pause}
	for _, w := range s.Webhooks {
		n.add("webhook "+w.Name, w.Events, hook{w, secret}.send)
	}
	if s.Mail != nil {
		n.add("mail", s.Mail.Events, mailer{Mail: *s.Mail, secret: secret}.send)
	}
	return n
}

func (n *Notifier) add(name string, events []model.State, send func(context.Context, Message) error) {
	n.receivers = append(n.receivers, &receiver{name: name, events: events, send: send, queue: make(chan Message, queued)})
}

// receiver is one that is told, one message after the other.
type receiver struct {
	name   string
	events []model.State
	send   func(context.Context, Message) error
	queue  chan Message
}

// Tell hands a message to all who want it, and returns at once.
func (n *Notifier) Tell(m Message) {
	for _, r := range n.receivers {
		if !slices.Contains(r.events, m.State) {
			continue
		}
		for !r.take(m) {
			select {
			case old := <-r.queue:
				n.lost(r, old, errors.New("too many wait: it was the oldest"))
			default:
			}
		}
	}
}

func (r *receiver) take(m Message) bool {
	select {
	case r.queue <- m:
		return true
	default:
		return false
	}
}

// Run tells receivers what they are to be told, until ctx ends. What waits then is lost.
func (n *Notifier) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, r := range n.receivers {
		all.Go(func() { n.serve(ctx, r) })
	}
	all.Wait()
}

func (n *Notifier) serve(ctx context.Context, r *receiver) {
	for {
		select {
		case <-ctx.Done():
			n.leave(ctx, r)
			return
		case m := <-r.queue:
			if err := n.deliver(ctx, r, m); err != nil {
				n.lost(r, m, err)
			}
		}
	}
}

// leave tells of what nobody is told any more.
func (n *Notifier) leave(ctx context.Context, r *receiver) {
	for {
		select {
		case m := <-r.queue:
			n.lost(r, m, context.Cause(ctx))
		default:
			return
		}
	}
}

func (n *Notifier) lost(r *receiver, m Message, err error) {
	n.log.Warn("somebody was not notified", "receiver", r.name, "migration", m.Migration, "state", m.State, "err", err)
}

// deliver tells one receiver, and tries again as long as that may help.
func (n *Notifier) deliver(ctx context.Context, r *receiver, m Message) error {
	for try := 1; ; try++ {
		err := n.try(ctx, r, m)
		_, lasting := errors.AsType[*lastingError](err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case lasting || try == tries:
			return err
		}
		wait := max(n.pause(try), min(afterOf(err), atMost))
		n.log.Debug("notifying again", "receiver", r.name, "migration", m.Migration, "try", try, "wait", wait, "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

var errSlow = errors.New("the receiver took too long")

func (n *Notifier) try(ctx context.Context, r *receiver, m Message) error {
	ctx, cancel := context.WithTimeoutCause(ctx, aTry, errSlow)
	defer cancel()
	return r.send(ctx, m)
}

// pause is twice as long after each try.
func pause(try int) time.Duration { return min(atLeast<<(try-1), atMost) }

// lastingError is one that the same message would meet again.
type lastingError struct{ error }

func (e *lastingError) Unwrap() error { return e.error }
