package serve

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// Journal sends what is logged to systemd's journal, with its keys as fields.
type Journal struct {
	level  slog.Level
	fields map[string]string
	group  string
}

// NewJournal is a handler of what is at a level or above it.
func NewJournal(level slog.Level) *Journal { return &Journal{level: level} }

// Enabled implements slog.Handler.
func (j *Journal) Enabled(_ context.Context, l slog.Level) bool { return l >= j.level }

// Handle implements slog.Handler.
func (j *Journal) Handle(_ context.Context, r slog.Record) error {
	fields := j.with()
	var text strings.Builder
	text.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		j.add(fields, a)
		fmt.Fprintf(&text, " %s=%s", a.Key, a.Value.Resolve())
		return true
	})
	return journal.Send(text.String(), priority(r.Level), fields)
}

// WithAttrs implements slog.Handler.
func (j *Journal) WithAttrs(list []slog.Attr) slog.Handler {
	fields := j.with()
	for _, a := range list {
		j.add(fields, a)
	}
	return &Journal{j.level, fields, j.group}
}

// WithGroup implements slog.Handler.
func (j *Journal) WithGroup(name string) slog.Handler {
	return &Journal{j.level, j.fields, j.group + name + "_"}
}

func (j *Journal) with() map[string]string {
	fields := map[string]string{}
	for k, v := range j.fields {
		fields[k] = v
	}
	return fields
}

func (j *Journal) add(fields map[string]string, a slog.Attr) {
	fields[fieldName(j.group+a.Key)] = a.Value.Resolve().String()
}

// fieldName is a key as the journal takes it. Source: sd_journal_print(3).
func fieldName(key string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, key)
	return "H2K_" + name
}

// priority is a level as syslog says it.
func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
