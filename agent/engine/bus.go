package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Limits of what is kept, in bytes, and for how long. The oldest events go first, and
// files are small: reports, screens, logs.
const (
	maxRecord   = 1 << 20
	maxEvents   = 256 << 20
	eventsKept  = 7 * 24 * time.Hour
	maxAudit    = 256 << 20
	maxKept     = 4 << 30
	maxKeptFile = 64 << 20
	startLimit  = 30 * time.Second
	// dedupe is how long an event that was sent twice is seen to be the same.
	dedupe = 10 * time.Minute
)

// bus is the connection to what keeps everything.
type bus struct {
	server *server.Server // nil if it is elsewhere
	secret string         // that this process shows to its own server
	conn   *nats.Conn
	js     jetstream.JetStream
	jobs   jetstream.KeyValue
	nodes  jetstream.KeyValue
	states jetstream.KeyValue // of what else is kept: users, secrets, batches
	events jetstream.Stream
	audit  jetstream.Stream
	kept   jetstream.ObjectStore

	refused atomic.Pointer[refusal]

	mu   sync.Mutex
	anew chan struct{} // closed when the connection is made anew
	// ending tells that the connection is to be closed, or was; lost is closed if it was
	// not to be, and err says why it was.
	ending bool
	lost   chan struct{}
	err    error
}

func newBus() *bus {
	return &bus{anew: make(chan struct{}), lost: make(chan struct{}), secret: rand.Text()}
}

func openBus(ctx context.Context, c Config, id string) (_ *bus, err error) {
	if err := c.Shape.check(); err != nil {
		return nil, err
	}
	b := newBus()
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	carry := false
	if c.Shape.Cluster.Name != "" {
		if carry, err = carries(ctx, c, id); err != nil {
			return nil, err
		}
	}
	if c.Shape.URL == "" {
		if b.server, err = startServer(c, id, b.secret); err != nil {
			return nil, err
		}
	}
	if b.conn, err = b.connect(c, id); err != nil {
		return nil, err
	}
	if b.js, err = jetstream.New(b.conn); err != nil {
		return nil, err
	}
	if carry {
		if err := b.carryOver(ctx, c); err != nil {
			return b, err
		}
	}
	return b, b.prepare(ctx, c.Shape, c.Audit)
}

// insist does a request until it is answered, or ctx ends, or an error is not to be
// tried again.
func insist(ctx context.Context, again func(error) bool, request func(context.Context) error) error {
	return insistFor(ctx, askTime, again, request)
}

// How long one request may take, and the carrying over of one stream.
const (
	askTime  = 2 * time.Second
	giveTime = 15 * time.Minute
)

// insistFor is insist with requests that may take so long.
func insistFor(ctx context.Context, limit time.Duration, again func(error) bool, request func(context.Context) error) error {
	for {
		short, cancel := context.WithTimeout(ctx, limit)
		err := request(short)
		cancel()
		if err == nil || ctx.Err() != nil || !again(err) {
			return errors.Join(err, context.Cause(ctx))
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// passing tells of an error of a connection or of a cluster that has no leader yet.
func passing(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503
	}
	return true
}

func (b *bus) close() error {
	if b == nil {
		return nil
	}
	if b.conn != nil {
		b.mu.Lock()
		b.ending = true
		b.mu.Unlock()
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	return nil
}
