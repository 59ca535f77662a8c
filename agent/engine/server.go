package engine

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startServer starts the embedded server. SyncAlways makes it answer only when what it
// was given is on stable storage: its own choice is to do that every two minutes.
func startServer(c Config, id, secret string) (*server.Server, error) {
	o, err := serverOptions(c, id, secret)
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

// nobody is where one that votes listens for workers if it lets none join: the server
// waits for its listener before it reaches the others. Whoever comes there needs a
// certificate all the same.
//
// Source: nats-server, server/route.go, StartRouting; server.RANDOM_PORT.
const nobody = "127.0.0.1:-1"

// handshake is how long one may take: the server's own choice of 2 s is little for an
// appliance whose CPUs copy disks.
const handshake = 10 * time.Second

func serverOptions(c Config, id, secret string) (*server.Options, error) {
	o := &server.Options{
		ServerName: id, JetStream: true, StoreDir: filepath.Join(c.State, "engine"), SyncAlways: true,
		NoSigs: true, NoLog: true, DontListen: c.Shape.Listen == "" && c.Shape.Cluster.Name == "", MaxPayload: 2 * maxRecord,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 16 << 30, CustomClientAuthentication: access{secret},
	}
	if !o.DontListen {
		host, port, err := hostPort(cmp.Or(c.Shape.Listen, nobody))
		if err != nil {
			return nil, err
		}
		o.Host, o.Port, o.TLSConfig, o.TLSVerify, o.TLSHandshakeFirst, o.TLSTimeout = host, port, c.Shape.TLS, true, true, handshake.Seconds()
	}
	if c.Shape.Cluster.Name == "" {
		return o, nil
	}
	host, port, err := hostPort(c.Shape.Cluster.Listen)
	if err != nil {
		return nil, err
	}
	o.Cluster = server.ClusterOpts{Name: c.Shape.Cluster.Name, Host: host, Port: port, TLSConfig: c.Shape.Cluster.TLS, TLSTimeout: handshake.Seconds()}
	for _, peer := range c.Shape.Cluster.Peers {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: peer})
	}
	return o, nil
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
