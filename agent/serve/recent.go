package serve

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// Bounds of what is remembered of the log, in bytes.
const (
	maxRecent = 2 << 20
	maxLine   = 4 << 10
)

// Recent remembers the end of the log, for those who are asked for help.
type Recent struct {
	mu    sync.Mutex
	lines [][]byte // the oldest first
	size  int
}

// Over is a handler that hands on to another one, and remembers what is informative or
// worse though the other one may not want it.
func (r *Recent) Over(next slog.Handler) slog.Handler {
	return &remembering{next, slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelInfo})}
}

// Write remembers a line.
func (r *Recent) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := bytes.Clone(line[:min(len(line), maxLine)])
	if len(kept) < len(line) {
		kept[len(kept)-1] = '\n'
	}
	r.lines = append(r.lines, kept)
	r.size += len(kept)
	for r.size > maxRecent {
		r.size -= len(r.lines[0])
		r.lines = r.lines[1:]
	}
	return len(line), nil
}

// Text is what is remembered.
func (r *Recent) Text() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Join(r.lines, nil)
}

// remembering is two handlers.
type remembering struct{ next, recent slog.Handler }

// Enabled implements slog.Handler.
func (r *remembering) Enabled(ctx context.Context, l slog.Level) bool {
	return r.next.Enabled(ctx, l) || r.recent.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (r *remembering) Handle(ctx context.Context, v slog.Record) error {
	if r.recent.Enabled(ctx, v.Level) {
		if err := r.recent.Handle(ctx, v.Clone()); err != nil {
			return err
		}
	}
	if !r.next.Enabled(ctx, v.Level) {
		return nil
	}
	return r.next.Handle(ctx, v)
}

// WithAttrs implements slog.Handler.
func (r *remembering) WithAttrs(list []slog.Attr) slog.Handler {
	return &remembering{r.next.WithAttrs(list), r.recent.WithAttrs(list)}
}

// WithGroup implements slog.Handler.
func (r *remembering) WithGroup(name string) slog.Handler {
	return &remembering{r.next.WithGroup(name), r.recent.WithGroup(name)}
}
