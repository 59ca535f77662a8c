package proc

import (
	"context"
	"log/slog"
	"time"
)

type loggerKey struct{}

// WithLogger makes the programs that run under the context known to a log, at
// level Debug, each with its argv and the time that it took. A server's is the
// time until it was ready.
func WithLogger(ctx context.Context, log *slog.Logger) context.Context {
	return context.WithValue(ctx, loggerKey{}, log)
}

func (c Command) log(ctx context.Context, message string, began time.Time) {
	if log, ok := ctx.Value(loggerKey{}).(*slog.Logger); ok {
		log.DebugContext(ctx, message, "argv", c.argv(), "took", time.Since(began))
	}
}
