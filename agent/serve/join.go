package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/durable"
)

// Join makes the appliance of some settings a member of the fleet that a token is of.
// What one that will vote has kept by itself is laid aside: it takes over what the
// others keep.
func Join(ctx context.Context, s *config.Settings, token guest.Secret) (m *fleet.Member, aside string, err error) {
	if err := os.MkdirAll(s.State, 0o700); err != nil {
		return nil, "", err
	}
	release, err := engine.Lock(s.State)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", config.ErrSettings, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	own, err := ownSealer(s.State)
	if err != nil {
		return nil, "", err
	}
	id, err := engine.Identity(s.State)
	if err != nil {
		return nil, "", err
	}
	if m, err = fleet.Join(ctx, s.State, id, s.Appliance.Name, own, token); err != nil || m.Role() != fleet.Voting {
		return m, "", err
	}
	aside, err = layAside(filepath.Join(s.State, "engine"), time.Now())
	return m, aside, err
}

// layAside renames a folder, if it is there, and returns its new name.
func layAside(folder string, now time.Time) (string, error) {
	to := folder + "-before-" + now.UTC().Format("20060102T150405")
	err := durable.Rename(folder, to)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return to, err
}
