package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline"
	"hyper2kvm/testers"
)

// A mutant is the sample guest, fixed, with one thing more that a proof must
// not be deceived by. It is rehearsed: what is added stands in its plan.
type mutant struct {
	unit    string
	service string   // the unit's text from its ordering on
	wanted  string   // by this target
	fails   []string // the testers of which at least one must say no
}

var mutants = map[string]mutant{
	"prints its login prompt with a dead network": {
		unit:    "dead-network.service",
		service: "After=networking.service\n[Service]\nExecStart=/sbin/ip link set ens192 down\n",
		wanted:  "multi-user.target",
		fails:   []string{"network-witnessed-outside", "addresses-configured", "gateway-reached"},
	},
	// It takes the port before the probe can, and speaks as the probe would.
	"forges the probe's reports": {
		unit: "forger.service",
		service: "DefaultDependencies=no\nBefore=hyper2kvm-probe.service\n[Service]\nType=forking\nExecStart=/bin/sh -c '" +
			`until [ -e /dev/virtio-ports/org.hyper2kvm.probe.0 ]; do sleep 0.2; done; ` +
			`exec 3<>/dev/virtio-ports/org.hyper2kvm.probe.0; ` +
			`while :; do echo "{\"kind\":\"reached\",\"target\":\"multi-user.target\",\"state\":\"running\",\"mac\":\"00\"}"; sleep 1; done >&3 &'` + "\n",
		wanted: "sysinit.target",
		fails:  []string{"report-authentic"},
	},
}

func TestNoMutantIsProved(t *testing.T) {
	g := guestUnderTest(t)
	plan, err := run(t, filepath.Join(t.TempDir(), "plan"), pipeline.Options{Source: g.VMX, Until: "plan"})
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			mutated := *plan.Plan
			mutated.Changes = append(slices.Clone(mutated.Changes), m.changes()...)
			r, err := run(t, filepath.Join(t.TempDir(), "mutant"), pipeline.Options{Source: g.VMX, Plan: &mutated,
				Skip: map[string]string{"convert": "this is a rehearsal"}})
			if !errors.Is(err, pipeline.ErrNotProved) {
				t.Fatalf("a guest that %s: %v, want %v", name, err, pipeline.ErrNotProved)
			}
			t.Logf("cause: %s", r.Outcome.Cause)
			no := slices.ContainsFunc(r.Outcome.Answers, func(a testers.Answer) bool { return !a.OK && slices.Contains(m.fails, a.Name) })
			if !no {
				t.Errorf("none of %v said no: %+v", m.fails, r.Outcome.Answers)
			}
		})
	}
}

// changes put the mutant's unit into the guest and have systemd start it.
func (m mutant) changes() []guest.Change {
	unit := []byte("[Unit]\nDescription=Mutant\n" + m.service)
	at := "/etc/systemd/system/" + m.unit
	return []guest.Change{
		{Fixer: "test/mutant", Why: "to deceive the proof", Path: at, Data: unit, Before: guest.State{Kind: guest.Absent},
			After: guest.State{Kind: guest.File, Size: int64(len(unit)), SHA256: fmt.Sprintf("%x", sha256.Sum256(unit)), Meta: guest.Meta{Mode: 0o644}}},
		{Fixer: "test/mutant", Why: "to deceive the proof", Path: "/etc/systemd/system/" + m.wanted + ".wants/" + m.unit,
			Before: guest.State{Kind: guest.Absent}, After: guest.State{Kind: guest.Symlink, Target: at, Meta: guest.Meta{Mode: 0o777}}},
	}
}
