package pipeline

import (
	"errors"
	"strings"
	"testing"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
)

// asked is a run of a machine with three NICs, of which the target is to be another.
func asked(o Overrides) *Run {
	m := machine.Machine{Name: "web01", CPUs: 4, CoresPerSocket: 2, Memory: 4 << 30,
		NICs: []machine.NIC{{MAC: "00:50:56:00:00:01", Network: "VM Network"}, {Network: "DMZ"}, {Network: "Backup"}}}
	return &Run{Migration: &Migration{Name: "web01", Machine: m, Facts: &inspect.Facts{}, Options: Options{Target: o}}}
}

func TestTheTargetHasWhatWasAskedFor(t *testing.T) {
	d := asked(Overrides{}).domain()
	if d.Sockets != 2 || d.Cores != 2 || d.Memory != 4<<30 || d.NICs[0].Network != "default" {
		t.Errorf("without overrides it is %+v", d)
	}
	o := Overrides{CPUs: 6, Memory: 1 << 30, Networks: map[string]string{"VM Network": "bridge:br0", "*": "lab"}}
	d = asked(o).domain()
	if d.Sockets != 6 || d.Cores != 1 || d.Memory != 1<<30 {
		t.Errorf("it has %d sockets of %d cores and %d bytes", d.Sockets, d.Cores, d.Memory)
	}
	if d.NICs[0].Bridge != "br0" || d.NICs[0].Network != "" || d.NICs[1].Network != "lab" || d.NICs[2].Network != "lab" {
		t.Errorf("its NICs are %+v", d.NICs)
	}
}

func TestANetworkThatIsNotMappedIsAConcern(t *testing.T) {
	r := asked(Overrides{Networks: map[string]string{"DMZ": "lab", "Backup": "lab"}})
	list := r.Options.Target.unmapped(r.Machine)
	if len(list) != 1 || list[0].Code != "source/network-not-mapped" {
		t.Errorf("concerns are %+v", list)
	}
	if list := (Overrides{}).unmapped(r.Machine); len(list) != 0 {
		t.Errorf("without a map concerns are %+v", list)
	}
}

// TestATargetThatWasNotReviewedIsAConcern: apply goes by its own maps, which may not be
// those that the plan was made with.
func TestATargetThatWasNotReviewedIsAConcern(t *testing.T) {
	reviewed := asked(Overrides{Networks: map[string]string{"*": "lab"}})
	plan := fixers.Plan{Target: reviewed.becomes()}
	for name, c := range map[string]struct {
		now  Overrides
		want string // of the concern, if there is to be one
	}{
		"the same":        {reviewed.Options.Target, ""},
		"another network": {Overrides{Networks: map[string]string{"DMZ": "bridge:br0", "*": "lab"}}, `nic goes from "DMZ" to the bridge "br0"`},
		"more memory":     {Overrides{Memory: 8 << 30, Networks: map[string]string{"*": "lab"}}, "memory 8192 MiB; the source has 4096 MiB"},
	} {
		r := asked(c.now)
		r.Options.Plan = &plan
		if err := r.plan(t.Context()); err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, c := range r.Plan.Concerns {
			text += c.Code + ": " + c.Text
		}
		if c.want == "" && text != "" || c.want != "" && text != "target/not-as-reviewed: the target is not the one that was reviewed with the plan: "+c.want {
			t.Errorf("%s: concerns %q, want %q", name, text, c.want)
		}
	}
	plan.Target = nil // of a plan without one
	r := asked(Overrides{Memory: 8 << 30})
	r.Options.Plan = &plan
	if err := r.plan(t.Context()); err != nil || len(r.Plan.Concerns) > 0 {
		t.Errorf("a plan without a target: %v, %v", err, r.Plan.Concerns)
	}
}

// TestAGuestWithTooManyDisksIsNotCopied: it could not be started, and copying takes hours.
func TestAGuestWithTooManyDisksIsNotCopied(t *testing.T) {
	r := asked(Overrides{})
	r.Machine.Disks = make([]machine.Disk, 7)
	if err := r.convert(t.Context()); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "7 disks, and the bus sata of the target takes 6") {
		t.Errorf("convert = %v, want %v", err, ErrBlocked)
	}
}

func TestOverridesThatCannotBeAreRefused(t *testing.T) {
	for _, o := range []Overrides{{CPUs: -1}, {CPUs: 1 << 20}, {Memory: 4096}, {Networks: map[string]string{"": "lab"}}, {Networks: map[string]string{"DMZ": "bridge:"}}, {Networks: map[string]string{"DMZ": ""}}} {
		if err := (Options{Target: o}).check(); !errors.Is(err, source.ErrBadInput) {
			t.Errorf("check of %+v = %v, want %v", o, err, source.ErrBadInput)
		}
	}
}
