package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/testers"
)

// Checks are what the file systems' own checkers found, each time that they were
// asked. They change nothing.
type Checks struct {
	Before []guest.Health `json:"before,omitempty"` // in INSPECT: of all that the guest mounts, or that may grow
	After  []guest.Health `json:"after,omitempty"`  // in FIX: of those that it wrote to, or has grown
	Result []guest.Health `json:"result,omitempty"` // in TEST: of all, on what is booted
}

// ErrDamage is a file system that was whole before we wrote to it.
var ErrDamage = errors.New("a file system was damaged by its repair: report this as a bug, with the report")

// mounted are the devices of the file systems that the guest mounts, each once.
func mounted(f inspect.Facts) []string {
	var devices []string
	for _, m := range f.Mounts {
		if m.Device != "" && m.Path != "none" && m.Type != "swap" && !slices.Contains(devices, m.Device) {
			devices = append(devices, m.Device)
		}
	}
	return devices
}

// writtenTo are the devices of the file systems on which changes are.
func writtenTo(f inspect.Facts, changes []guest.Change) []string {
	var devices []string
	for _, c := range changes {
		m, _ := f.MountOf(c.Path)
		if m.Device != "" && !slices.Contains(devices, m.Device) {
			devices = append(devices, m.Device)
		}
	}
	return devices
}

// union is a list with what another has besides.
func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// check unmounts all file systems and lets those of some devices be checked.
func (r *Run) check(ctx context.Context, g guest.Guest, stage string, devices []string) ([]guest.Health, error) {
	if err := g.UnmountAll(); err != nil {
		return nil, err
	}
	var found []guest.Health
	for _, device := range devices {
		r.tell(Event{Stage: stage, State: Running, Text: "check the file system on " + device})
		h, err := g.Check(ctx, device)
		if err != nil {
			return nil, err
		}
		r.log.Info("file system checked", "migration", r.Name, "device", h.Device, "type", h.Type, "state", h.State, "text", h.Text)
		found = append(found, h)
	}
	return found, nil
}

// newlyDamaged are those that were not damaged before.
func newlyDamaged(before, now []guest.Health) []guest.Health {
	return slices.DeleteFunc(slices.Clone(now), func(h guest.Health) bool {
		return h.State != guest.Damaged || slices.Contains(damagedDevices(before), h.Device)
	})
}

func damagedDevices(checks []guest.Health) []string {
	var devices []string
	for _, h := range checks {
		if h.State == guest.Damaged {
			devices = append(devices, h.Device)
		}
	}
	return devices
}

// damageCode is the concern of a file system that was damaged before the migration.
const damageCode = "guest/filesystem-damaged"

// withDamage adds to a plan's concerns what INSPECT knows of damaged file systems:
// without a vital one the guest is not to be moved. An approved plan may hold what
// an earlier run knew.
func (r *Run) withDamage(concerns []fixer.Concern) []fixer.Concern {
	concerns = slices.DeleteFunc(slices.Clone(concerns), func(c fixer.Concern) bool { return c.Code == damageCode })
	for _, h := range r.Checks.Before {
		if h.State != guest.Damaged {
			continue
		}
		c := fixer.Concern{Level: fixer.Warning, Code: damageCode, Try: "run fsck in the guest and migrate again"}
		var folders []string
		for _, m := range r.Facts.Mounts {
			if m.Device == h.Device {
				folders = append(folders, m.Path)
			}
			if m.Device == h.Device && inspect.Vital(m.Path) {
				c.Level = fixer.Blocker
			}
		}
		where := "not mounted"
		if len(folders) > 0 {
			where = "mounted at " + strings.Join(folders, ", ")
		}
		c.Text = fmt.Sprintf("the file system on %s (%s, %s) was damaged before the migration: %s", h.Device, h.Type, where, h.Text)
		concerns = append(concerns, c)
	}
	return concerns
}

// forTesters are checks as the testers take them.
func forTesters(checks []guest.Health) []testers.Filesystem {
	var found []testers.Filesystem
	for _, h := range checks {
		found = append(found, testers.Filesystem{Device: h.Device, Type: h.Type, Clean: h.State == guest.Clean, Damaged: h.State == guest.Damaged, Text: h.Text})
	}
	return found
}
