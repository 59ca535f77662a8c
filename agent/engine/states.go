package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/auth"
)

// States keeps what else the appliances share: users, tokens, secrets. It implements
// auth.Store.
type States struct{ bucket jetstream.KeyValue }

// States are this engine's.
func (e *Engine) States() States { return States{e.bus.states} }

// Read implements auth.Store.
func (s States) Read(ctx context.Context, key string) ([]byte, uint64, error) {
	if long(key) {
		return nil, 0, fmt.Errorf("%.100s…: %w", key, auth.ErrNotFound)
	}
	entry, err := s.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, fmt.Errorf("%s: %w", key, auth.ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", key, err)
	}
	return entry.Value(), entry.Revision(), nil
}

// Create implements auth.Store.
func (s States) Create(ctx context.Context, key string, value []byte) error {
	if long(key) {
		return fmt.Errorf("%w: a key of %d bytes", ErrTooLarge, len(key))
	}
	_, err := s.bucket.Create(ctx, key, value)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("%s: %w", key, auth.ErrExists)
	}
	return err
}

// Update implements auth.Store.
func (s States) Update(ctx context.Context, key string, value []byte, revision uint64) error {
	if _, now, err := s.Read(ctx, key); errors.Is(err, auth.ErrNotFound) || err == nil && now != revision {
		return fmt.Errorf("%s: %w", key, auth.ErrChanged) // the marker of a deletion has a revision too
	}
	_, err := s.bucket.Update(ctx, key, value, revision)
	return changed(key, err)
}

// Delete implements auth.Store.
func (s States) Delete(ctx context.Context, key string, revision uint64) error {
	if _, now, err := s.Read(ctx, key); errors.Is(err, auth.ErrNotFound) || err == nil && now != revision {
		return fmt.Errorf("%s: %w", key, auth.ErrChanged)
	}
	return changed(key, s.bucket.Delete(ctx, key, jetstream.LastRevision(revision)))
}

func changed(key string, err error) error {
	if wrongRevision(err) {
		return fmt.Errorf("%s: %w", key, auth.ErrChanged)
	}
	return err
}

// List implements auth.Store.
func (s States) List(ctx context.Context, prefix string) ([]string, error) {
	if long(prefix) {
		return []string{}, nil
	}
	l, err := s.bucket.ListKeysFiltered(ctx, prefix+">")
	if err != nil {
		return nil, fmt.Errorf("list %s*: %w", prefix, err)
	}
	keys := []string{}
	for key := range l.Keys() {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, ctx.Err() // the lister has stopped by itself
}

// Record implements auth.Audit: what was done is kept where nothing can be taken away.
func (e *Engine) Record(ctx context.Context, entry auth.Entry) {
	text, err := json.Marshal(entry)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, err = e.bus.js.PublishMsg(ctx, &nats.Msg{Subject: "audit", Data: text})
	}
	if err != nil {
		e.config.Log.Error("an audit entry could not be kept", "action", entry.Action, "principal", entry.Principal.Name, "outcome", entry.Outcome, "err", err)
	}
}

// Audited are the entries of the audit log before a number, the newest first; from the
// last one if it is 0.
func (e *Engine) Audited(ctx context.Context, before uint64, limit int) (list []Numbered, err error) {
	info, err := e.bus.audit.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	last := info.State.LastSeq
	if before > 0 {
		last = min(last, before-1)
	}
	for n := last; n >= info.State.FirstSeq && n > 0 && len(list) < limit; n-- {
		m, err := e.bus.audit.GetMsg(ctx, n)
		if errors.Is(err, jetstream.ErrMsgNotFound) { // the oldest goes while this reads
			break
		}
		if err != nil {
			return list, fmt.Errorf("read the audit log: %w", err)
		}
		list = append(list, Numbered{n, m.Data})
	}
	return list, nil
}
