package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/seal"
	"hyper2kvm/fixers/guest"
)

// joined opens this appliance's part in a fleet, as far as the settings' shape has one,
// and the keys that open what is sealed.
func (a *agent) joined(ctx context.Context, id string) error {
	own, err := ownSealer(a.settings.State)
	if err != nil {
		return err
	}
	a.own, a.sealer = own, own
	if a.settings.Engine.Shape == config.External {
		return nil
	}
	a.member, err = a.part(ctx, id, own)
	if errors.Is(err, fleet.ErrAlone) && a.settings.Engine.Shape == config.Single {
		return nil
	}
	if err != nil {
		return err
	}
	a.sealer, err = a.member.Sealer()
	return err
}

func ownSealer(state string) (*seal.Sealer, error) {
	return seal.Load(filepath.Join(state, "seal.key"))
}

// part is this appliance's in a fleet. A hub founds one; a worker may join with the
// token that its settings name.
func (a *agent) part(ctx context.Context, id string, own *seal.Sealer) (*fleet.Member, error) {
	s := a.settings
	if s.Engine.Shape == config.HubShape {
		return fleet.Found(s.State, id, own)
	}
	m, err := fleet.Open(s.State, own)
	switch {
	case !errors.Is(err, fleet.ErrAlone):
		return m, err
	case s.Engine.Shape == config.WorkerShape && s.Engine.Worker.Secret != "":
		token, err := readToken(s.Engine.Worker.Secret)
		if err != nil {
			return nil, err
		}
		return fleet.Join(ctx, s.State, id, s.Appliance.Name, own, token)
	case s.Engine.Shape == config.WorkerShape:
		return nil, fmt.Errorf("%w: engine.shape: worker: %w: run hyper2kvm fleet invite on the hub, and hyper2kvm fleet join TOKEN here", config.ErrSettings, err)
	case s.Engine.Shape == config.ClusterShape:
		return nil, fmt.Errorf("%w: engine.shape: cluster: %w: begin with one appliance by itself: run hyper2kvm fleet invite --voting on it for each of the others, hyper2kvm fleet join TOKEN on those, and then give all of them this shape", config.ErrSettings, err)
	}
	return nil, err
}

// readToken reads a token to join with out of a credential of systemd's.
func readToken(name string) (guest.Secret, error) {
	text, err := os.ReadFile(filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), name))
	if err != nil {
		return nil, fmt.Errorf("%w: engine.worker.secret: %w: name it in the unit with LoadCredentialEncrypted=", config.ErrSettings, err)
	}
	return bytes.TrimSpace(text), nil
}

// shape is the engine's, by the settings and by what this appliance is to its fleet.
func (a *agent) shape(ctx context.Context) (engine.Shape, error) {
	e := a.settings.Engine
	switch e.Shape {
	case config.HubShape:
		return engine.Shape{Listen: e.Hub.Listen, TLS: a.member.TLS()}, nil
	case config.WorkerShape:
		return a.working(ctx)
	case config.ClusterShape:
		return a.voting()
	case config.External:
		return external(*e.External)
	}
	return engine.Shape{}, nil
}

func (a *agent) working(ctx context.Context) (engine.Shape, error) {
	hub := a.settings.Engine.Worker.Hub
	if err := a.member.Try(ctx, hub); err != nil {
		return engine.Shape{}, err
	}
	urls := []string{"tls://" + hub}
	for _, other := range a.member.Hubs() {
		if other != hub {
			urls = append(urls, "tls://"+other)
		}
	}
	return engine.Shape{URL: strings.Join(urls, ","), TLS: a.member.TLS()}, nil
}

func (a *agent) voting() (engine.Shape, error) {
	if a.member.Role() != fleet.Voting {
		return engine.Shape{}, fmt.Errorf("%w: engine.shape: cluster: this appliance has joined as a worker: join again with a token of hyper2kvm fleet invite --voting", config.ErrSettings)
	}
	c := a.settings.Engine.Cluster
	s := engine.Shape{Listen: c.Workers, TLS: a.member.TLS(), Cluster: engine.Cluster{Name: c.Name, Listen: c.Listen, TLS: a.member.Peers(), First: a.member.Founder()}}
	for _, p := range c.Peers {
		if p.Name != a.settings.Appliance.Name {
			s.Cluster.Peers = append(s.Cluster.Peers, p.Address)
		}
	}
	return s, nil
}

// external is the shape of one that shares a NATS that is there already.
func external(e config.ExternalNATS) (engine.Shape, error) {
	s := engine.Shape{URL: e.URL, External: true}
	if e.Credentials != "" {
		s.Credentials = credential(e.Credentials)
		if _, err := os.Stat(s.Credentials); err != nil {
			return s, fmt.Errorf("%w: engine.external.credentials: %w", config.ErrSettings, err)
		}
	}
	if !strings.HasPrefix(e.URL, "tls:") {
		if e.CA != "" {
			return s, fmt.Errorf("%w: engine.external.ca: it is for an address that begins with tls://", config.ErrSettings)
		}
		return s, nil
	}
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CA == "" {
		return s, nil
	}
	var err error
	s.TLS.RootCAs, err = authorities("engine.external.ca", e.CA)
	return s, err
}
