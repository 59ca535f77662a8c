package auth

import (
	"context"
	"errors"
	"time"
)

// Sweep removes what has ended: sessions, what is left of log-ins at other providers,
// and tokens that ran out 30 days ago. It is for every few minutes; several appliances
// may do it at once.
func (g *Gate) Sweep(ctx context.Context) error {
	return errors.Join(
		sweep(ctx, g, sessionPrefix, func(s session) time.Time { return s.ends() }),
		sweep(ctx, g, tokenPrefix, func(t token) time.Time { return t.Expires.Add(keptFor) }),
		sweep(ctx, g, pendingPrefix, func(p pending) time.Time { return p.Until }),
	)
}

// sweep deletes the records under a prefix whose time has come, at the revision that
// says so: one that was used meanwhile stays.
func sweep[T any](ctx context.Context, g *Gate, prefix string, until func(T) time.Time) error {
	keys, err := g.store.List(ctx, prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range keys {
		var v T
		revision, err := g.store.Load(ctx, key, &v)
		if err == nil && !g.now().Before(until(v)) {
			err = g.store.Delete(ctx, key, revision)
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrChanged) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
