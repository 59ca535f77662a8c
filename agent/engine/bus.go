package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Shape is how appliances share their migrations. Its zero value is an appliance by
// itself, whose engine nobody else can reach.
type Shape struct {
	// URL is of an engine elsewhere that this appliance works for: a hub's, or that of
	// a NATS with JetStream. Nothing is kept here then.
	URL string
	// Listen is where workers reach this one, which then is a hub: host and port.
	Listen string
	// Cluster makes this one of several that keep everything three times.
	Cluster Cluster
	// TLS is what this appliance shows to others and whom it trusts.
	TLS *tls.Config `json:"-"`
}

// Cluster is an appliance's place among others that all vote.
type Cluster struct {
	Name   string
	Listen string   // where the others reach it: host and port
	Peers  []string // where it reaches the others
}

// ErrShape is a shape that would not keep what it is given.
var ErrShape = errors.New("appliances cannot work together so")

func (s Shape) check() error {
	voting := len(s.Cluster.Peers) + 1
	switch {
	case s.URL != "" && (s.Listen != "" || s.Cluster.Name != ""):
		return fmt.Errorf("%w: one that works for an engine elsewhere is no hub and has no vote", ErrShape)
	case s.Cluster.Name != "" && voting != 3 && voting != 5:
		return fmt.Errorf("%w: %d appliances cannot vote: more than half of them must be there for anything to be kept, so an even number survives no more failures than one less, and with two nothing goes on when either fails; have 3 or 5, or one hub with workers", ErrShape, voting)
	}
	return nil
}

// replicas is how many times everything is kept.
func (s Shape) replicas() int {
	if s.Cluster.Name != "" {
		return 3
	}
	return 1
}

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
	conn   *nats.Conn
	js     jetstream.JetStream
	jobs   jetstream.KeyValue
	nodes  jetstream.KeyValue
	states jetstream.KeyValue // of what else is kept: users, secrets, batches
	events jetstream.Stream
	audit  jetstream.Stream
	kept   jetstream.ObjectStore

	mu   sync.Mutex
	anew chan struct{} // closed when the connection is made anew
}

func openBus(ctx context.Context, c Config, id string) (_ *bus, err error) {
	if err := c.Shape.check(); err != nil {
		return nil, err
	}
	b := &bus{anew: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if c.Shape.URL == "" {
		if b.server, err = startServer(c, id); err != nil {
			return nil, err
		}
	}
	if b.conn, err = b.connect(c); err != nil {
		return nil, err
	}
	if b.js, err = jetstream.New(b.conn); err != nil {
		return nil, err
	}
	return b, b.prepare(ctx, c.Shape.replicas(), c.Audit)
}

// startServer starts the embedded server. SyncAlways makes it answer only when what it
// was given is on stable storage: its own choice is to do that every two minutes.
func startServer(c Config, id string) (*server.Server, error) {
	o, err := serverOptions(c, id)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(serverLog{c.Log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startLimit) {
		s.Shutdown()
		return nil, fmt.Errorf("the engine's server was not ready within %v", startLimit)
	}
	return s, nil
}

func serverOptions(c Config, id string) (*server.Options, error) {
	o := &server.Options{
		ServerName: id, JetStream: true, StoreDir: filepath.Join(c.State, "engine"), SyncAlways: true,
		NoSigs: true, NoLog: true, DontListen: c.Shape.Listen == "", MaxPayload: 2 * maxRecord,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 16 << 30,
	}
	if c.Shape.Listen != "" {
		host, port, err := hostPort(c.Shape.Listen)
		if err != nil {
			return nil, err
		}
		o.Host, o.Port, o.TLSConfig, o.TLSVerify = host, port, c.Shape.TLS, c.Shape.TLS != nil
	}
	if c.Shape.Cluster.Name == "" {
		return o, nil
	}
	host, port, err := hostPort(c.Shape.Cluster.Listen)
	if err != nil {
		return nil, err
	}
	o.Cluster = server.ClusterOpts{Name: c.Shape.Cluster.Name, Host: host, Port: port, TLSConfig: c.Shape.TLS}
	for _, peer := range c.Shape.Cluster.Peers {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: peer})
	}
	return o, nil
}

func (b *bus) connect(c Config) (*nats.Conn, error) {
	options := []nats.Option{nats.Name(c.Name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.RetryOnFailedConnect(true),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.Log.Warn("the engine is out of reach", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.Log.Info("the engine is reached again")
			b.renew()
		}),
	}
	if b.server != nil {
		return nats.Connect("", append(options, nats.InProcessServer(b.server))...)
	}
	if c.Shape.TLS != nil {
		options = append(options, nats.Secure(c.Shape.TLS))
	}
	return nats.Connect(c.Shape.URL, options...)
}

// prepare makes what is not there yet. Requests that a cluster without a leader gets
// are lost, so each is short and sent again.
func (b *bus) prepare(ctx context.Context, replicas int, audit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("what keeps the migrations did not answer within %v: is more than half of the appliances there?", startLimit))
	defer cancel()
	for _, make := range []func(context.Context) error{
		func(ctx context.Context) (err error) {
			b.jobs, err = b.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "jobs", Replicas: replicas, MaxValueSize: maxRecord})
			return err
		},
		func(ctx context.Context) (err error) {
			b.nodes, err = b.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "appliances", Replicas: replicas})
			return err
		},
		func(ctx context.Context) (err error) {
			b.states, err = b.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "states", Replicas: replicas, MaxValueSize: maxRecord})
			return err
		},
		func(ctx context.Context) (err error) {
			b.events, err = b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, Replicas: replicas,
				MaxAge: eventsKept, MaxBytes: maxEvents, Discard: jetstream.DiscardOld, Duplicates: dedupe, AllowDirect: true})
			return err
		},
		func(ctx context.Context) (err error) { // of which nothing can be taken away, by this program neither
			b.audit, err = b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit"}, Replicas: replicas,
				MaxAge: audit, MaxBytes: maxAudit, Discard: jetstream.DiscardOld, DenyDelete: true, DenyPurge: true})
			return err
		},
		func(ctx context.Context) (err error) {
			b.kept, err = b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "kept", Replicas: replicas, MaxBytes: maxKept})
			return err
		},
	} {
		if err := insist(ctx, make); err != nil {
			return err
		}
	}
	return nil
}

// insist does a request until it is answered or ctx ends.
func insist(ctx context.Context, request func(context.Context) error) error {
	for {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := request(short)
		cancel()
		if err == nil || ctx.Err() != nil || !passing(err) {
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
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	return nil
}

// serverLog hands on what the embedded server has to say.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug(fmt.Sprintf(format, v...), "part", "nats")
}
func (l serverLog) Debugf(format string, v ...any) {
	l.log.Debug(fmt.Sprintf(format, v...), "part", "nats")
}
func (l serverLog) Tracef(format string, v ...any) {
	l.log.Debug(fmt.Sprintf(format, v...), "part", "nats")
}
func (l serverLog) Warnf(format string, v ...any) {
	l.log.Warn(fmt.Sprintf(format, v...), "part", "nats")
}
func (l serverLog) Errorf(format string, v ...any) {
	l.log.Error(fmt.Sprintf(format, v...), "part", "nats")
}
func (l serverLog) Fatalf(format string, v ...any) {
	l.log.Error(fmt.Sprintf(format, v...), "part", "nats")
}

// hostPort splits an address.
func hostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%w: %q is no address: want a host and a port, such as 192.0.2.7:4222", ErrShape, address)
	}
	return host, port, nil
}
