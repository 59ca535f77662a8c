package update

import (
	"context"
	"errors"
	"fmt"
)

// Confirm ends the trial of the version that runs: it is healthy, and from now on what is
// started. It is no mistake if it is on no trial.
func (m *Machine) Confirm(ctx context.Context) (err error) {
	release, err := m.alone(ctx, forever)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	runs, err := m.Version()
	if err != nil {
		return err
	}
	h, err := m.home(ctx)
	if err != nil {
		return err
	}
	return m.onESP(ctx, h.esp.Node, false, func(e esp) error { return e.confirm(runs) })
}

// Copied lets somebody copy the ESP into a file while nobody changes it, and leaves in the
// copy what an appliance of the version that runs starts from, and nothing of another one.
func (m *Machine) Copied(ctx context.Context, file string, copy func() error) (err error) {
	release, err := m.alone(ctx, forever)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := copy(); err != nil {
		return err
	}
	runs, err := m.Version()
	if err != nil {
		return err
	}
	return m.onESP(ctx, file, false, func(e esp) error { return e.only(runs) })
}

// only leaves of the versions one, confirmed.
func (e esp) only(version string) error {
	list, err := e.images()
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.version != version {
			if err := e.remove(i.name()); err != nil {
				return err
			}
		}
	}
	return e.confirm(version)
}

func (e esp) confirm(version string) error {
	list, err := e.images()
	if err != nil {
		return err
	}
	i, there := find(list, version)
	if !there {
		return fmt.Errorf("the kernel image of %s, which runs, is not on its disk", version)
	}
	if i.counted {
		if err := e.move(i.name(), image{version: version}.name()); err != nil {
			return err
		}
	}
	return e.menu()
}
