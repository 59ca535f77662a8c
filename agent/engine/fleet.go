package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// renewals is where appliances ask those that vote to renew their certificates.
const renewals = "fleet.renew"

// ServeRenewals has answer say what other appliances of the fleet are told that ask, until
// the engine is closed. One of those that serve gets each question.
func (e *Engine) ServeRenewals(answer func(ctx context.Context, asked []byte) []byte) error {
	_, err := e.bus.conn.QueueSubscribe(renewals, "voting", func(m *nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), pauseBetween)
		defer cancel()
		if err := m.Respond(answer(ctx, m.Data)); err != nil {
			e.config.Log.Warn("an appliance was not answered", "err", err)
		}
	})
	return err
}

// AskForRenewal asks an appliance that votes.
func (e *Engine) AskForRenewal(ctx context.Context, text []byte) ([]byte, error) {
	m, err := e.bus.conn.RequestWithContext(ctx, renewals, text)
	if err != nil {
		return nil, fmt.Errorf("ask the hub: %w", err)
	}
	return m.Data, nil
}

// mostConnections is how many of the server's connections are looked at.
const mostConnections = 4096

// Cut ends the connections that appliances have to this one.
func (e *Engine) Cut(ids ...string) {
	if e.bus.server == nil || len(ids) == 0 {
		return
	}
	list, err := e.bus.server.Connz(&server.ConnzOptions{Username: true, Limit: mostConnections})
	if err != nil {
		e.config.Log.Error("who is connected is not known", "err", err)
		return
	}
	for _, c := range list.Conns {
		if !slices.Contains(ids, c.AuthorizedUser) {
			continue
		}
		e.config.Log.Info("an appliance that was removed is cut off", "appliance", c.AuthorizedUser)
		if err := e.bus.server.DisconnectClientByID(c.Cid); err != nil {
			e.config.Log.Debug("it was gone already", "appliance", c.AuthorizedUser, "err", err)
		}
	}
}

// Alive tells whether an appliance was heard of within its lease.
func (e *Engine) Alive(id string) bool { return !e.nodes.silent(id, e.config.Lease) }

// Dismiss forgets an appliance that will not come back, once it was silent for so long
// that others may take over what it worked on.
func (e *Engine) Dismiss(ctx context.Context, id string) error {
	if id == e.id || !e.nodes.silent(id, e.silence()) {
		return nil
	}
	if _, err := e.bus.nodes.Get(ctx, id); errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	return e.bus.nodes.Delete(ctx, id)
}

// Lock keeps the state folder of an engine that is not open, so that none can be opened
// meanwhile: ErrBusy if one is.
func Lock(state string) (release func() error, err error) {
	lock, err := lockState(filepath.Join(state, "lock"))
	if err != nil {
		return nil, err
	}
	return lock.Close, nil
}
