package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
)

// told is an event on its way.
type told struct {
	model.Event
	once string // tells it from others; it may be published twice and is kept once
}

// revisionHeader says of which revision of its record an event tells.
const revisionHeader = "H2k-Revision"

// announce tells that a record has changed. Every appliance that sees it does, and one
// of the events is kept. Nothing is told twice of what was kept before this process
// began: see missed.
func (e *Engine) announce(was, now Record) {
	select {
	case <-e.table.complete:
	default:
		state, missed := e.missed(now)
		if !missed {
			return
		}
		was.State = state
	}
	select {
	case e.events <- told{eventOf(was, now), fmt.Sprintf("%s.%d", now.ID, now.Revision)}:
	case <-e.done:
	}
}

// missed tells whether a record has changed since the last event of it that was kept,
// as when this process was killed between the two, and in which state it was then.
func (e *Engine) missed(r Record) (was model.State, missed bool) {
	if time.Since(r.Updated) > eventsKept {
		return "", false
	}
	ctx, cancel := context.WithTimeout(context.Background(), pauseBetween)
	defer cancel()
	last, err := e.bus.events.GetLastMsgForSubject(ctx, "events."+r.ID+".state")
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return begins(r), true
	}
	if err != nil {
		e.config.Log.Warn("whether a change was told is not known", "migration", r.ID, "err", err)
		return "", false
	}
	var told model.Event
	revision, err := strconv.ParseInt(last.Header.Get(revisionHeader), 10, 64)
	if err := errors.Join(err, json.Unmarshal(last.Data, &told)); err != nil {
		return begins(r), true
	}
	return told.State, revision < r.Revision
}

// begins is the state that a record came from of which nothing was told; none if it has
// just begun.
func begins(r Record) model.State {
	if r.State == model.StateQueued {
		return ""
	}
	return model.StateQueued
}

// eventOf is what there is to tell of a change.
func eventOf(was, now Record) model.Event {
	v := model.Event{Time: now.Updated, Migration: now.ID, Name: now.Name, State: now.State, Verdict: now.Verdict, Problem: now.Problem, Text: now.Why, Progress: now.Progress}
	if was.State != now.State {
		v.Was = was.State
	}
	for i, s := range now.Stages {
		if i >= len(was.Stages) || was.Stages[i] != s {
			v.Stage = s
		}
	}
	for i, o := range now.Operations {
		if i >= len(was.Operations) || was.Operations[i].ID != o.ID || was.Operations[i].Done != o.Done {
			v.Operation = o.ID
		}
	}
	return v
}

// chat tells what is not kept in the record. It is left out rather than waited for.
func (e *Engine) chat(r Record, u Update) {
	v := model.Event{Time: time.Now().UTC(), Migration: r.ID, Name: r.Name, State: model.StateRunning, Text: u.Text, Progress: u.Progress}
	if len(e.events) > cap(e.events)/2 {
		return
	}
	select {
	case e.events <- told{Event: v}:
	default:
	}
}

// publish keeps the events in their order. What does not arrive is sent again.
func (e *Engine) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-e.events:
			for ctx.Err() == nil {
				if err := e.keep(ctx, t); err == nil {
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(250 * time.Millisecond):
				}
			}
		}
	}
}

func (e *Engine) keep(ctx context.Context, t told) error {
	text, err := json.Marshal(t.Event)
	if err != nil {
		e.config.Log.Error("an event cannot be told", "migration", t.Migration, "err", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pauseBetween)
	defer cancel()
	if t.once == "" {
		_, err = e.bus.js.Publish(ctx, "events."+t.Migration+".text", text)
		return err
	}
	m := nats.NewMsg("events." + t.Migration + ".state")
	m.Data = text
	m.Header.Set(revisionHeader, t.once[len(t.Migration)+1:])
	_, err = e.bus.js.PublishMsg(ctx, m, jetstream.WithMsgID(t.once))
	return err
}

// Numbered is an event that was kept.
type Numbered struct {
	Number uint64
	JSON   []byte // of a model.Event
}

// Follow are the events after a number, as they happen, until ctx ends; with Now those
// from now on. Numbers that are not kept any more are passed over. The error is the
// context's, or that of a store that is gone.
func (e *Engine) Follow(ctx context.Context, migration string, after int64) iter.Seq2[Numbered, error] {
	return func(yield func(Numbered, error) bool) {
		messages, forget, err := e.subscribe(ctx, migration, after)
		if err != nil {
			yield(Numbered{}, err)
			return
		}
		defer forget()
		defer context.AfterFunc(ctx, messages.Stop)()
		defer messages.Stop()
		for {
			m, err := messages.Next()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(Numbered{}, fmt.Errorf("follow events: %w", err))
				return
			}
			meta, err := m.Metadata()
			if err != nil {
				yield(Numbered{}, err)
				return
			}
			if !yield(Numbered{meta.Sequence.Stream, m.Data()}, nil) {
				return
			}
		}
	}
}

// Now is after all that has happened.
const Now = -1

// unfollowed is how long the store keeps what it has for one who follows and is not
// heard of. Unless told, that is 5 minutes.
const unfollowed = 30 * time.Second

func (e *Engine) subscribe(ctx context.Context, migration string, after int64) (messages jetstream.MessagesContext, forget func(), err error) {
	c := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy, FilterSubjects: []string{"events.>"}, InactiveThreshold: unfollowed}
	if long(migration) {
		return nil, nil, fmt.Errorf("%w: %.100s…", ErrUnknown, migration)
	}
	if migration != "" {
		c.FilterSubjects = []string{"events." + migration + ".>"}
	}
	if after >= 0 {
		c.DeliverPolicy, c.OptStartSeq = jetstream.DeliverByStartSequencePolicy, uint64(after)+1
	}
	consumer, err := e.bus.events.OrderedConsumer(ctx, c)
	if err != nil {
		return nil, nil, fmt.Errorf("follow events: %w", err)
	}
	messages, err = consumer.Messages(jetstream.PullMaxMessages(64))
	return messages, func() { e.forgetFollower(ctx, consumer) }, err
}

// forgetFollower has the store forget one at once. One that it cannot be told of it
// forgets by itself.
func (e *Engine) forgetFollower(ctx context.Context, c jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pauseBetween)
	defer cancel()
	if err := e.bus.events.DeleteConsumer(ctx, c.CachedInfo().Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		e.config.Log.Debug("a follower of events goes by itself", "err", err)
	}
}
