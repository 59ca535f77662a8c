package engine

import (
	"time"

	"github.com/nats-io/nats.go"
)

// connect reaches the engine, here or elsewhere. What is not reached yet is tried again
// and again.
func (b *bus) connect(c Config, id string) (*nats.Conn, error) {
	options := []nats.Option{nats.Name(c.Name), nats.CustomInboxPrefix(inboxes(id)), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.RetryOnFailedConnect(true),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.Log.Warn("the engine is out of reach", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.Log.Debug("of the connection to the engine", "err", err)
		}),
		nats.ClosedHandler(b.closed),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.tried(c, err) }),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.Log.Info("the engine is reached again")
			b.renew()
		}),
	}
	if b.server != nil {
		return nats.Connect("", append(options, nats.InProcessServer(b.server), nats.UserInfo(local, b.secret))...)
	}
	if c.Shape.TLS != nil {
		options = append(options, nats.Secure(c.Shape.TLS))
	}
	if !c.Shape.External {
		options = append(options, nats.TLSHandshakeFirst())
	}
	if c.Shape.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Shape.Credentials))
	}
	return nats.Connect(c.Shape.URL, options...)
}

// refusal is why the engine elsewhere was not reached.
type refusal struct {
	err  error
	told time.Time
}

// tellAgain is how often it is logged that an engine is not reached, for the same reason.
const tellAgain = time.Minute

// tried notes why the engine elsewhere is not reached.
func (b *bus) tried(c Config, err error) {
	was := b.refused.Load()
	if was != nil && was.err.Error() == err.Error() && time.Since(was.told) < tellAgain {
		return
	}
	b.refused.Store(&refusal{err, time.Now()})
	if c.Explain != nil {
		err = c.Explain(err)
	}
	c.Log.Warn("the engine is not reached", "err", err)
}

// why is the last reason for which the engine elsewhere was not reached.
func (b *bus) why() error {
	if r := b.refused.Load(); r != nil && b.conn != nil && !b.conn.IsConnected() {
		return r.err
	}
	return nil
}
