package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
)

// ping is how often an appliance sends something where nothing happens.
const ping = 15 * time.Second

// maxLine is how long a line of a stream of events may be, bytes.
const maxLine = 2 << 20

// Now is after all that has happened.
const Now = -1

// Events are those of a migration, or of all if it is "", after a number: 0 for all that
// are kept, Now for those from now on. A stream that is lost is taken up again where it
// was. They end with ctx, or with a Refusal.
func (c *Conn) Events(ctx context.Context, migration string, after int64) iter.Seq2[model.Event, error] {
	return func(yield func(model.Event, error) bool) {
		for wait := soon; ; wait = min(2*wait, later) {
			seen := after
			more, err := c.stream(ctx, migration, &after, func(e model.Event) bool { return yield(e, nil) })
			if !more {
				return
			}
			if after > seen {
				wait = soon
			}
			if _, ok := errors.AsType[*Refusal](err); ok || errors.Is(err, ErrTrust) {
				yield(model.Event{}, err)
				return
			}
			if err := sleep(ctx, wait); err != nil {
				yield(model.Event{}, err)
				return
			}
		}
	}
}

// stream hands on events until the stream ends, or nothing was heard for too long, or
// no more are wanted.
func (c *Conn) stream(ctx context.Context, migration string, after *int64, each func(model.Event) bool) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := model.FollowEventsParams{Migration: migration}
	if *after >= 0 {
		p.LastEventID = strconv.FormatInt(*after, 10)
	}
	reply, err := c.api.FollowEvents(ctx, &p, withoutFrom)
	if err != nil {
		return true, err
	}
	defer reply.Body.Close()
	if err := refused(reply); err != nil {
		return true, err
	}
	return c.events(reply, cancel, after, each)
}

// withoutFrom takes a parameter out that 0 would be sent for: the header says it better.
func withoutFrom(_ context.Context, r *http.Request) error {
	q := r.URL.Query()
	q.Del("from")
	r.URL.RawQuery = q.Encode()
	return nil
}

func (c *Conn) events(reply *http.Response, cancel func(), after *int64, each func(model.Event) bool) (more bool, err error) {
	silence := time.AfterFunc(c.quiet, cancel)
	defer silence.Stop()
	in := bufio.NewScanner(reply.Body)
	in.Buffer(nil, maxLine)
	number := *after
	for in.Scan() {
		silence.Reset(c.quiet)
		field, value, _ := strings.Cut(in.Text(), ": ")
		switch field {
		case "id":
			if number, err = strconv.ParseInt(value, 10, 64); err != nil {
				return true, fmt.Errorf("read events: %w", err)
			}
		case "data":
			var e model.Event
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				return true, fmt.Errorf("read events: %w", err)
			}
			*after = number
			if !each(e) {
				return false, nil
			}
		}
	}
	if err := in.Err(); err != nil {
		return true, err
	}
	return true, io.ErrUnexpectedEOF
}

// unheard is how long an operation is not asked for while its events are followed.
const unheard = 30 * time.Second

// Await waits until an operation is done, and returns it as it is then; its Problem is
// for the caller. Events tell when to look, and are handed to each, if that is not nil,
// from the migration's first one on. Who may not follow events asks again and again.
func (c *Conn) Await(ctx context.Context, o model.Operation, each func(model.Event)) (model.Operation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, lost := make(chan model.Event), make(chan error, 1)
	go func() { lost <- c.forward(ctx, o.Migration, events) }()
	every := unheard
	for {
		now, after, err := c.Operation(ctx, o.ID)
		if err != nil || now.Done {
			c.rest(now, events, each)
			return now, err
		}
		if every < unheard {
			every = max(after, time.Second)
		}
		if err := next(ctx, events, lost, each, &every); err != nil {
			return now, err
		}
	}
}

// next returns when an operation is to be looked at again.
func next(ctx context.Context, events <-chan model.Event, lost <-chan error, each func(model.Event), every *time.Duration) error {
	look := time.NewTimer(*every)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-lost:
			*every = time.Second
			return nil
		case <-look.C:
			return nil
		case e := <-events:
			if each != nil {
				each(e)
			}
			if e.Operation != "" || e.State != model.StateRunning {
				return nil
			}
		}
	}
}

// rest hands on what has happened by the end of an operation, as far as it is told soon.
func (c *Conn) rest(o model.Operation, events <-chan model.Event, each func(model.Event)) {
	limit := time.After(time.Second)
	for each != nil {
		select {
		case <-limit:
			return
		case e := <-events:
			each(e)
			if e.Operation == o.ID && e.State != model.StateRunning && !e.Time.Before(o.Ended) {
				return
			}
		}
	}
}

// forward sends a migration's events until ctx ends or they cannot be followed.
func (c *Conn) forward(ctx context.Context, migration string, events chan<- model.Event) error {
	for e, err := range c.Events(ctx, migration, 0) {
		if err != nil {
			return err
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
