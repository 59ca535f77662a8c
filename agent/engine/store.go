package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
)

// Submit keeps a new migration. The same key and spec may be given again: the
// migration that was made then is returned. An ID is made up if there is none.
func (e *Engine) Submit(ctx context.Context, id string, s model.Spec, name, by, key string) (Record, error) {
	id = newID(id, name, key)
	return e.keepNew(ctx, newRecord(id, s, name, by, key, time.Now().UTC()))
}

// keepNew keeps a record, if it is not there yet by the same request.
func (e *Engine) keepNew(ctx context.Context, r Record) (Record, error) {
	text, err := r.encode()
	if err == nil && long(r.ID) {
		err = fmt.Errorf("%w: the ID has %d bytes", ErrTooLarge, len(r.ID))
	}
	if err != nil {
		return Record{}, err
	}
	id, first := r.ID, r.Requests[0]
	revision, err := e.bus.jobs.Create(ctx, id, text)
	if err == nil {
		r.Revision = int64(revision)
		e.saw(r)
		return r, nil
	}
	was, failed := e.read(ctx, id)
	switch {
	case errors.Is(failed, ErrUnknown):
		return Record{}, fmt.Errorf("keep migration %s: %w", id, err)
	case failed != nil:
		return Record{}, errors.Join(err, failed)
	}
	op, err := was.asked(first.Key, first.Digest)
	if op == nil && err == nil {
		err = fmt.Errorf("%w: %s", ErrExists, id)
	}
	return was, err
}

// Draft is a migration as it would be kept.
func Draft(id string, s model.Spec, name, by string) model.Migration {
	return newRecord(newID(id, name, ""), s, name, by, "", time.Now().UTC()).Migration
}

// Order has something done to a migration. It returns the operation that tells how
// far that is.
func (e *Engine) Order(ctx context.Context, id string, o Order) (op model.Operation, r Record, err error) {
	r, err = e.change(ctx, id, func(r *Record) error {
		p, err := r.order(o, time.Now().UTC())
		if err == nil {
			op = *p
		}
		return err
	})
	return op, r, err
}

// Reschedule changes when a migration runs that has not ended.
func (e *Engine) Reschedule(ctx context.Context, id string, s model.Schedule, revision int64) (Record, error) {
	return e.change(ctx, id, func(r *Record) error {
		switch {
		case revision != 0 && revision != r.Revision:
			return ErrChanged
		case r.ended():
			return r.notNow("given another schedule", "it has ended")
		}
		r.Spec.Schedule = s
		return nil
	})
}

// Forget removes the record of a migration that has ended, and what is kept with it.
func (e *Engine) Forget(ctx context.Context, id string, revision int64) error {
	r, err := e.read(ctx, id)
	switch {
	case err != nil:
		return err
	case revision != 0 && revision != r.Revision:
		return ErrChanged
	case !r.ended():
		return r.notNow("forgotten", "it has not ended; cancel it first")
	}
	err = e.bus.jobs.Delete(ctx, id, jetstream.LastRevision(uint64(r.Revision)))
	if wrongRevision(err) {
		return ErrChanged
	}
	return errors.Join(err, e.forgetKept(ctx, id))
}

// read reads a record where it is kept.
func (e *Engine) read(ctx context.Context, id string) (Record, error) {
	entry, err := e.entry(ctx, id)
	if err != nil {
		return Record{}, err
	}
	return decode(entry.Value(), entry.Revision())
}

func (e *Engine) entry(ctx context.Context, id string) (jetstream.KeyValueEntry, error) {
	if long(id) {
		return nil, fmt.Errorf("%w: %.100s…", ErrUnknown, id)
	}
	entry, err := e.bus.jobs.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	if err != nil {
		return nil, fmt.Errorf("read migration %s: %w", id, err)
	}
	return entry, nil
}

// errAsItIs is an edit that changes nothing.
var errAsItIs = errors.New("as it is")

// change edits a record, on what it is when it is written: edit is called again when
// somebody else was quicker. An edit that ends with an error changes nothing.
func (e *Engine) change(ctx context.Context, id string, edit func(*Record) error) (Record, error) {
	var tried []byte
	for {
		entry, err := e.entry(ctx, id)
		if err != nil {
			return Record{}, err
		}
		r, err := decode(entry.Value(), entry.Revision())
		if err != nil {
			return r, err
		}
		if tried != nil && bytes.Equal(tried, entry.Value()) { // it was written, and the answer lost
			e.saw(r)
			return r, nil
		}
		r.Updated = time.Now().UTC()
		if err := edit(&r); err != nil {
			before, failed := decode(entry.Value(), entry.Revision())
			if errors.Is(err, errAsItIs) {
				err = nil
			}
			return before, errors.Join(err, failed)
		}
		if tried, err = r.encode(); err != nil {
			return Record{}, err
		}
		revision, err := e.bus.jobs.Update(ctx, id, tried, entry.Revision())
		switch {
		case err == nil:
			r.Revision = int64(revision)
			e.saw(r)
			return r, nil
		case !wrongRevision(err) && !passing(err), ctx.Err() != nil:
			return Record{}, fmt.Errorf("keep migration %s: %w", id, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// wrongRevision tells of a value that is not the one any more that was to be replaced.
func wrongRevision(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
