package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// State is how a version is that was installed.
type State string

// States of a version.
const (
	None      State = "none"       // there is none
	OnTrial   State = "on-trial"   // it is what is started, until it is healthy or its tries are over
	Confirmed State = "confirmed"  // it was healthy
	Failed    State = "failed"     // it was tried in vain, and is started no more by itself
	BrokenOff State = "broken-off" // its installation did not come to its end
)

// Status is what there is on the disk.
type Status struct {
	Running   string // version
	Trial     bool   // the running one is on trial
	Other     string // the version in the other slot
	State     State  // of that
	Installed time.Time
	Started   int // how often it was tried
}

// Sentence tells people of the other version; "" if there is nothing to tell.
func (s Status) Sentence() string {
	at := s.Installed.UTC().Format("2006-01-02 15:04 UTC")
	switch s.State {
	case Failed:
		return fmt.Sprintf("version %s was installed at %s, started %d times and was not healthy; %s runs", s.Other, at, s.Started, s.Running)
	case OnTrial:
		return fmt.Sprintf("version %s was installed at %s and is started next; restart this appliance", s.Other, at)
	case BrokenOff:
		return fmt.Sprintf("the installation of version %s did not come to its end; give it the update once more", s.Other)
	}
	return ""
}

// Look reads what there is. It is ErrCannot where no update is taken; what is known of the
// versions is told all the same.
func (m *Machine) Look(ctx context.Context) (s Status, err error) {
	s.State = None
	if s.Running, err = m.Version(); err != nil {
		return s, err
	}
	if s.Running == "" {
		return s, fmt.Errorf("%w: it is none, but this program on another system", ErrCannot)
	}
	release, err := m.alone(ctx, forever)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, release()) }()
	h, err := m.home(ctx)
	if err != nil {
		return s, err
	}
	if err := m.onESP(ctx, h.esp.Node, true, func(e esp) error { return m.look(e, h, &s) }); err != nil {
		return s, err
	}
	_, err = m.trust()
	return s, err
}

func (m *Machine) look(e esp, h home, s *Status) error {
	list, err := e.images()
	if err != nil {
		return err
	}
	b, err := e.block()
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.version == s.Running {
			s.Trial = i.counted
			continue
		}
		info, err := os.Stat(e.path(i.name()))
		if err != nil {
			return err
		}
		s.Other, s.Installed = i.version, info.ModTime()
		s.State, s.Started = i.state(b, m.byBIOS())
	}
	return nil
}

// state is how an image is, which the firmware counts by its name, or GRUB by its block.
func (i image) state(b block, byBIOS bool) (State, int) {
	left := min(i.left, tries)
	if b.trial == i.version {
		left = min(left, b.tries)
	}
	switch {
	case !i.counted:
		return Confirmed, 0
	case byBIOS && b.trial != i.version:
		return BrokenOff, 0
	case left == 0:
		return Failed, tries
	}
	return OnTrial, tries - left
}
