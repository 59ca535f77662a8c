package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/pipeline"
	"hyper2kvm/testers"
	"hyper2kvm/testers/guests"
	"hyper2kvm/testers/lan"
)

// A trial is one guest that must be proved, and what is particular about it.
// That it is healthy on VMware's hardware was shown when it was built.
type trial struct {
	guest    string
	lost     string   // what the report says of it when it is booted on KVM as it is
	concerns []string // codes, all that there are
	unasked  []string // what the proof must say that it leaves open
	always   bool     // part of every run that starts machines
}

var trials = []trial{
	{guest: "db01", lost: "boot-target-reached"},
	{guest: "app01", lost: "boot-target-reached"},
	{guest: "edge01", lost: "boot-target-reached", always: true},
	{guest: "file01", lost: "boot-target-reached"},
	{guest: "vault01", lost: "boot-target-reached", concerns: []string{"linux/asks-for-passphrase"}},
	{guest: "mirror01", lost: "boot-target-reached"},
	{guest: "lost01", lost: "boot-target-reached", concerns: []string{"linux/interface-in-another-slot"}, unasked: []string{"00:50:56:35:10:57"}},
}

// needed skips what is no part of this run.
func (x trial) needed(t *testing.T) {
	t.Helper()
	if v := os.Getenv("NEED_VMS"); v != "matrix" && (v == "" || !x.always) {
		t.Skip("one of many guests: set NEED_VMS=matrix")
	}
}

func (x trial) build(t *testing.T) guests.Guest {
	t.Helper()
	recipe, err := guests.Named(x.guest)
	if err != nil {
		t.Fatal(err)
	}
	g, err := guests.Build(t.Context(), recipe, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestEveryGuestIsMigratedAndProved(t *testing.T) {
	for _, x := range trials {
		t.Run(x.guest, func(t *testing.T) {
			x.needed(t)
			g := x.build(t)
			before := digests(t, g.VMDKs)
			r, err := runWith(t, filepath.Join(t.TempDir(), g.Name), pipeline.Options{Source: g.VMX}, keysOf(g))
			if r.Outcome != nil {
				t.Logf("cause %q, not asked %q", r.Outcome.Cause, r.Outcome.Unasked)
				for _, a := range r.Outcome.Answers {
					t.Logf("%-28s %s", a.Name, a.Evidence)
				}
			}
			t.Logf("engine %s: %s", r.Engine.Name, r.Engine.Reason)
			if err != nil {
				t.Fatal(err)
			}
			x.check(t, r, g)
			if keysOf(g) != nil {
				answeredOn(t, r.Folder, "screen")
				unseen(t, r.Folder, g)
			}
			if after := digests(t, g.VMDKs); !slices.Equal(before, after) {
				t.Error("the source was written")
			}
		})
	}
}

// check asks for more than the verdict: that the proof asked for all that the
// recipe says of the guest, and that the plan was complete.
func (x trial) check(t *testing.T, r *pipeline.Run, g guests.Guest) {
	t.Helper()
	if !r.Outcome.Proved || len(r.Outcome.Answers) != len(testers.All()) {
		t.Errorf("outcome %+v", r.Outcome)
	}
	if r.Again == nil || len(r.Again.Changes) > 0 {
		t.Errorf("planning again after FIX: %+v", r.Again)
	}
	if len(r.Disks) != len(g.Disks) || len(r.Expect.Disks) != len(g.Disks) {
		t.Errorf("%d disks were made and %d asked for, want %d", len(r.Disks), len(r.Expect.Disks), len(g.Disks))
	}
	var asked []string
	for _, m := range r.Expect.Mounts {
		asked = append(asked, m.Path)
	}
	slices.Sort(asked)
	if want := mounted(g); !slices.Equal(asked, want) {
		t.Errorf("the proof asked for %q to be mounted, want %q", asked, want)
	}
	if root := g.Disks[0].Partitions[0]; (root.Subvolume != "") != (r.Expect.RootSubvolume != 0) {
		t.Errorf("the proof asked for the subvolume %d at /, want %q", r.Expect.RootSubvolume, root.Subvolume)
	}
	for _, a := range r.Outcome.Answers {
		if r.Expect.RootSubvolume != 0 && a.Name == "root-on-expected-disk" && !strings.Contains(a.Evidence, fmt.Sprintf("subvolume %d", r.Expect.RootSubvolume)) {
			t.Errorf("the guest told no subvolume: %s", a.Evidence)
		}
	}
	for i, n := range g.NICs {
		if got := r.Expect.NICs[i]; !asksFor(got, n) {
			t.Errorf("the proof asked for %+v of card %d, want %+v", got, i, n)
		}
	}
	var codes []string
	for _, c := range r.Plan.Concerns {
		codes = append(codes, c.Code)
	}
	if !slices.Equal(codes, x.concerns) {
		t.Errorf("concerns %+v, want %q", r.Plan.Concerns, x.concerns)
	}
	named := func(open, want string) bool { return strings.Contains(open, want) }
	if !slices.EqualFunc(r.Outcome.Unasked, x.unasked, named) {
		t.Errorf("not asked: %q, want %q", r.Outcome.Unasked, x.unasked)
	}
}

// mounted are the folders below / that the recipe mounts, sorted.
func mounted(g guests.Guest) []string {
	var folders []string
	add := func(f guests.Filesystem) {
		for _, folder := range f.Mounts() {
			if folder != "" && folder != "/" && folder != "none" {
				folders = append(folders, folder)
			}
		}
	}
	for _, d := range g.Disks {
		for _, p := range d.Partitions {
			add(p.Filesystem)
			for _, v := range p.Group.Volumes {
				add(v.Filesystem)
			}
		}
	}
	for _, a := range g.Arrays {
		add(a.Filesystem)
	}
	slices.SortFunc(folders, cmp.Compare)
	return folders
}

// asksFor compares what is expected of a card with its recipe.
func asksFor(e lan.Expect, n guests.NIC) bool {
	switch {
	case e.MAC != n.MAC:
		return false
	case n.ConfiguredAs != "":
		return !e.DHCP && len(e.Static) == 0
	case !n.Address.IsValid():
		return e.DHCP && len(e.Static) == 0
	}
	return !e.DHCP && len(e.Static) == 1 && e.Static[0] == n.Address && e.Gateway == n.Gateway
}

// The same guests as they are: without FIX none of them comes up on KVM, so the
// proof above is FIX's doing.
func TestNoGuestBootsOnKVMUnfixed(t *testing.T) {
	for _, x := range trials {
		t.Run(x.guest, func(t *testing.T) {
			if os.Getenv("NEED_VMS") != "matrix" {
				t.Skip("one of many guests: set NEED_VMS=matrix")
			}
			g := x.build(t)
			r, err := runWith(t, filepath.Join(t.TempDir(), g.Name), pipeline.Options{Source: g.VMX, Skip: asItIs()}, keysOf(g))
			if !errors.Is(err, pipeline.ErrNotProved) {
				t.Fatalf("an unfixed guest: %v, want %v", err, pipeline.ErrNotProved)
			}
			t.Logf("cause: %s\nlast words:\n%s", r.Outcome.Cause, r.Outcome.LastWords)
			if i := slices.IndexFunc(r.Outcome.Answers, func(a testers.Answer) bool { return a.Name == x.lost }); r.Outcome.Answers[i].OK {
				t.Errorf("%s says yes: %s", x.lost, r.Outcome.Answers[i].Evidence)
			}
		})
	}
}

func TestEveryRecipeHasATrial(t *testing.T) {
	for _, r := range guests.All {
		tried := slices.ContainsFunc(trials, func(x trial) bool { return x.guest == r.Name })
		if !tried && r.Name != "web01" && r.Name != "web02" { // the main job's, and the benchmark's
			t.Errorf("%s is built and never migrated", r.Name)
		}
	}
}

func digests(t *testing.T, paths []string) []string {
	t.Helper()
	var sums []string
	for _, p := range paths {
		sums = append(sums, digest(t, p))
	}
	return sums
}
