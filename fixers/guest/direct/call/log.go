package call

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// record is one line of a log.
type record struct {
	Level   slog.Level
	Message string
	Attrs   [][2]string
}

// tell writes it to this process's log.
func (r record) tell(ctx context.Context, log *slog.Logger) {
	var attrs []slog.Attr
	for _, a := range r.Attrs {
		attrs = append(attrs, slog.String(a[0], a[1]))
	}
	log.LogAttrs(ctx, r.Level, r.Message, attrs...)
}

// maxRecords bounds what is kept until the next answer.
const maxRecords = 1000

// records keeps what is logged until it is taken.
type records struct {
	mu   sync.Mutex
	kept []record
}

func (l *records) add(r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, r)
	l.kept = l.kept[max(0, len(l.kept)-maxRecords):]
}

func (l *records) take() []record {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := slices.Clone(l.kept)
	l.kept = l.kept[:0]
	return kept
}

// handler writes a log to records.
type handler struct {
	to    *records
	group string // goes before keys
	attrs [][2]string
}

// Enabled keeps all: who asks knows what of it to show.
func (handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle keeps a record.
func (h handler) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, h.pair(a))
		return true
	})
	h.to.add(record{r.Level, r.Message, attrs})
	return nil
}

func (h handler) pair(a slog.Attr) [2]string {
	return [2]string{h.group + a.Key, fmt.Sprint(a.Value.Resolve().Any())}
}

// WithAttrs adds to every record.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		h.attrs = append(h.attrs, h.pair(a))
	}
	return h
}

// WithGroup puts a name before the keys that follow.
func (h handler) WithGroup(name string) slog.Handler {
	h.group += name + "."
	return h
}
