package vmware

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnAssessmentSaysWhatAMigrationTakes(t *testing.T) {
	const gib = 1 << 30
	rows := []Row{
		{VM: VM{Ref: "vm-1", Name: "a", Used: 50 * gib, Disks: []Disk{{Size: 100 * gib, Used: 40 * gib}, {Size: 20 * gib}}}, Concerns: []Concern{{Level: Blocker}, {Level: Warning}, {Level: Info}}},
		{VM: VM{Ref: "vm-2", Name: "b", Disks: []Disk{{Size: 10 * gib}}}, Concerns: []Concern{{Level: Warning}}},
	}
	r := Rates{Link: gib, Disk: gib / 4, Parallel: 2, Fixed: time.Minute}
	a := Assess(rows, r, func(vm VM) string { return map[string]string{"a": "first", "b": "second"}[vm.Name] })
	// disk by disk at a quarter of a GiB a second: 40 GiB and 20×50/120 GiB of a's are
	// used, two are read at a time, and the larger alone takes 160 seconds; an export of the
	// disk whose use is not known may hold all of it
	first := Sum{VMs: 1, Disks: 2, Size: 120 * gib, Used: 50 * gib, Target: 120 * gib, Work: 2 * gib, NFC: 60 * gib, Blockers: 1, Concerns: 2,
		Time: Range{30*time.Second + 160*time.Second, time.Minute + 400*time.Second}}
	second := Sum{VMs: 1, Disks: 1, Size: 10 * gib, Used: 10 * gib, Unknown: 1, Target: 10 * gib, Work: 2 * gib, NFC: 10 * gib, Warnings: 1, Concerns: 1,
		Time: Range{30*time.Second + 40*time.Second, time.Minute + 40*time.Second}}
	want := Assessment{
		Rates: Rates{Link: gib, Disk: gib / 4, Parallel: 2, Share: 0.5, Fixed: time.Minute},
		VMs:   []Assessed{{Ref: "vm-1", Name: "a", Wave: "first", Sum: first}, {Ref: "vm-2", Name: "b", Wave: "second", Sum: second}},
		Waves: map[string]Sum{"first": first, "second": second},
		Total: Sum{VMs: 2, Disks: 3, Size: 130 * gib, Used: 60 * gib, Unknown: 1, Target: 130 * gib, Work: 4 * gib, NFC: 70 * gib, Blockers: 1, Warnings: 1, Concerns: 3,
			Time: Range{first.Time.Least + second.Time.Least, first.Time.Most + second.Time.Most}},
	}
	if d := cmp.Diff(want, a); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// the link is what is slow
	slow := Assess(rows, Rates{Link: gib / 100}, nil)
	if got, want := slow.Total.Time.Most, 130*100*2*time.Second; got != want || len(slow.Waves) != 0 {
		t.Errorf("over a slow link: %v, want %v; waves %v", got, want, slow.Waves)
	}
}
