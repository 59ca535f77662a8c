package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// unanswered is how long an event that was handed on may be unheard of: whoever has it
// was killed then, and it is handed on again.
const unanswered = 10 * time.Second

// Each hands every change of a migration's state to do, one after the other and in their
// order, and tells how often it was handed on, with this time. It is handed on again
// after as long as do says, until that is zero; also when this process is killed while do
// works, so that what do does may be done twice. Of all appliances that ask under a name
// one gets each. Whoever asks under a name for the first time gets what happens from then
// on, and who comes back goes on where that name was, for as long as events are kept. It
// ends with ctx.
func (e *Engine) Each(ctx context.Context, name string, do func(n Numbered, try int) (again time.Duration)) error {
	if err := e.each(ctx, name, do); err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow events as %s: %w", name, err)
	}
	return nil
}

// each asks for one event at a time. The client's iterator of messages would not ask for
// the next one until half a minute later where do is quicker than its own accounting.
func (e *Engine) each(ctx context.Context, name string, do func(Numbered, int) time.Duration) error {
	c, err := e.bus.events.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: name, FilterSubject: "events.*.state", AckPolicy: jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverNewPolicy, AckWait: unanswered, MaxAckPending: 1, InactiveThreshold: eventsKept})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		m, err := c.Next(jetstream.FetchContext(ctx))
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue // nothing happened, or the store was away meanwhile
		}
		if err == nil {
			err = e.handed(m, do)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// handed hands an event on, and tells the store what became of it.
func (e *Engine) handed(m jetstream.Msg, do func(Numbered, int) time.Duration) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	stop := e.stillWorks(m)
	again := do(Numbered{meta.Sequence.Stream, m.Data()}, int(meta.NumDelivered))
	stop()
	if again > 0 {
		err = m.NakWithDelay(again)
	} else {
		err = m.Ack()
	}
	if err != nil { // it is handed on again
		e.config.Log.Debug("an event was not acknowledged", "err", err)
	}
	return nil
}

// stillWorks tells the store again and again that somebody works on an event, until stop is
// called.
func (e *Engine) stillWorks(m jetstream.Msg) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(unanswered / 4)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				if err := m.InProgress(); err != nil {
					e.config.Log.Debug("that an event is worked on was not told", "err", err)
				}
			}
		}
	}()
	return func() { close(ended); <-done }
}
