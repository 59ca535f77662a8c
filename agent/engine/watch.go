package engine

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// watch hands on what is in a bucket at some keys and every change of it, until ctx ends. Each time
// all that is there was handed on, it tells what that was. After a connection was lost
// it begins anew: the library's own watcher takes up to 20 seconds to notice that the
// server has forgotten it.
func (e *Engine) watch(ctx context.Context, bucket jetstream.KeyValue, keys string, each func(jetstream.KeyValueEntry), whole func(there map[string]bool)) {
	for ctx.Err() == nil {
		again := e.bus.reconnected()
		w, err := bucket.Watch(ctx, keys)
		if err != nil {
			e.config.Log.Warn("changes cannot be watched", "bucket", bucket.Bucket(), "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(pauseBetween / 8):
			}
			continue
		}
		handOn(ctx, w, again, each, whole)
		if err := w.Stop(); err != nil && ctx.Err() == nil {
			e.config.Log.Debug("a watcher was gone", "bucket", bucket.Bucket(), "err", err)
		}
	}
}

func handOn(ctx context.Context, w jetstream.KeyWatcher, again <-chan struct{}, each func(jetstream.KeyValueEntry), whole func(map[string]bool)) {
	there := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			return
		case entry, ok := <-w.Updates():
			switch {
			case !ok:
				return
			case entry == nil:
				whole(there)
			default:
				there[entry.Key()] = entry.Operation() == jetstream.KeyValuePut
				each(entry)
			}
		}
	}
}

// reconnected is closed the next time that the connection is made anew.
func (b *bus) reconnected() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.anew
}

// renew tells those that watch that the connection was made anew.
func (b *bus) renew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.anew)
	b.anew = make(chan struct{})
}
