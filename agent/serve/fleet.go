package serve

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net"
	"time"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/fleet"
)

// registry lets others in and out; nil where they share another NATS.
func (a *agent) registry(id string) (*fleet.Registry, error) {
	if a.settings.Engine.Shape == config.External {
		return nil, nil
	}
	c, err := certificate(a.settings)
	if err != nil {
		return nil, err
	}
	print := sha256.Sum256(c.Certificate[0])
	return &fleet.Registry{State: a.settings.State, ID: id, Sealer: a.own, Store: a.engine.States(), Audit: a.engine, Member: a.member,
		Addresses: a.reached(), Print: print[:], Hubs: a.hubs(), Works: a.settings.Engine.Shape == config.WorkerShape, Alive: a.engine.Alive, Cut: a.cut}, nil
}

// cut ends the connections of appliances that were removed, and forgets them when
// others may take over what they worked on.
func (a *agent) cut(ids ...string) {
	a.engine.Cut(ids...)
	ctx, cancel := context.WithTimeout(context.Background(), followTime)
	defer cancel()
	for _, id := range ids {
		if err := a.engine.Dismiss(ctx, id); err != nil {
			a.log.Warn("an appliance that was removed could not be forgotten", "appliance", id, "err", err)
		}
	}
}

// mostReached is how many addresses a token holds of itself.
const mostReached = 6

// reached are where others may reach this appliance's API.
func (a *agent) reached() (list []string) {
	for _, l := range a.settings.Listen {
		if l.HTTPS != "" {
			list = append(list, at(l.HTTPS)...)
		}
	}
	return list[:min(len(list), mostReached)]
}

// at are the addresses that a listener has in the network.
func at(listen string) (list []string) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil // checked with the settings
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return []string{listen}
	}
	for _, ip := range addresses() {
		if !ip.IsLoopback() {
			list = append(list, net.JoinHostPort(ip.String(), port))
		}
	}
	return list
}

// hubs are where others reach what keeps the migrations.
func (a *agent) hubs() []string {
	e := a.settings.Engine
	switch {
	case e.Shape == config.HubShape:
		list := at(e.Hub.Listen)
		return list[:min(len(list), mostReached)]
	case e.Shape == config.ClusterShape && e.Cluster.Workers != "":
		return workersAt(*e.Cluster)
	}
	return []string{}
}

// workersAt are where workers reach those that vote: each at its address, and on the
// port that this one has.
func workersAt(c config.Cluster) (list []string) {
	_, port, err := net.SplitHostPort(c.Workers)
	if err != nil {
		return nil // checked with the settings
	}
	for _, p := range c.Peers {
		if host, _, err := net.SplitHostPort(p.Address); err == nil {
			list = append(list, net.JoinHostPort(host, port))
		}
	}
	return list
}

// How often a fleet is looked after: who was removed by others, and whether this
// appliance's certificate is to be renewed.
const (
	followEvery = time.Second
	followTime  = 5 * time.Second
	renewEvery  = time.Hour
	renewTime   = time.Minute
	worrying    = 10 * 24 * time.Hour // that a certificate still lasts
)

// belong looks after this appliance's part in its fleet until ctx ends.
func (a *agent) belong(ctx context.Context) error {
	if a.fleet == nil || a.member == nil {
		return nil
	}
	go func() {
		a.renew(ctx)
		repeat(ctx, renewEvery, func() { a.renew(ctx) })
	}()
	if a.member.Role() != fleet.Voting || a.settings.Engine.Shape == config.WorkerShape {
		return nil
	}
	go repeat(ctx, followEvery, func() {
		ctx, cancel := context.WithTimeout(ctx, followTime)
		defer cancel()
		if err := a.fleet.Follow(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("who was removed from the fleet is not known", "err", err)
		}
	})
	return a.engine.ServeRenewals(a.fleet.Renew)
}

func (a *agent) renew(ctx context.Context) {
	if !a.member.Due() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	err := a.member.Refresh(ctx, a.engine.AskForRenewal)
	left := time.Until(a.member.Expires()).Round(time.Hour)
	level := slog.LevelWarn
	if left < worrying {
		level = slog.LevelError
	}
	if err != nil {
		a.log.Log(ctx, level, "the certificate could not be renewed", "lasts", left, "err", err)
		return
	}
	a.log.Info("the certificate is renewed", "lasts", left)
}
