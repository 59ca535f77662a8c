package fixers

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/fixers/inspect"
)

var quiet = slog.New(slog.DiscardHandler)

// trees are the golden trees of all fixers.
func trees(t *testing.T) map[string]*txtar.Archive {
	t.Helper()
	names, err := filepath.Glob("linux/testdata/*/*.txtar")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d golden trees, %v", len(names), err)
	}
	all := map[string]*txtar.Archive{}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = a
	}
	return all
}

func load(t *testing.T, a *txtar.Archive) (*tree.FS, fixer.Input) {
	t.Helper()
	files, err := tree.Parse(a, "before")
	if err != nil {
		t.Fatal(err)
	}
	var in fixer.Input
	for _, f := range a.Files {
		switch f.Name {
		case "facts.json":
			err = json.Unmarshal(f.Data, &in.Facts)
		case "machine.json":
			err = json.Unmarshal(f.Data, &in.Machine)
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return files, in
}

func makePlan(t *testing.T, list []fixer.Fixer, files guest.Reader, in fixer.Input) Plan {
	t.Helper()
	plan, err := Make(t.Context(), list, files, in, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestAllFixersTogetherPlanOnceAndUndo(t *testing.T) {
	for name, a := range trees(t) {
		t.Run(name, func(t *testing.T) {
			before, in := load(t, a)
			now := before.Clone()
			inverse, err := guest.Apply(now, makePlan(t, All(), now, in).Changes)
			if err != nil {
				t.Fatal(err)
			}
			if again := makePlan(t, All(), now, in); len(again.Changes) > 0 {
				t.Errorf("planning again changes %s: %s", again.Changes[0].Path, again.Changes[0].Diff)
			}
			if _, err := guest.Apply(now, inverse); err != nil {
				t.Fatal(err)
			}
			if diff := tree.Diff(before, now); diff != "" {
				t.Errorf("undo leaves a difference:\n%s", diff)
			}
		})
	}
}

func TestAWindowsGuestIsNeverTouchedByTheFixersOfLinux(t *testing.T) {
	for name, a := range trees(t) {
		files, in := load(t, a)
		in.Facts.OS.Family = inspect.Windows
		plan := makePlan(t, All(), files, in)
		for _, c := range plan.Changes {
			if strings.HasPrefix(c.Fixer, "linux/") {
				t.Errorf("%s: %s changes %s", name, c.Fixer, c.Path)
			}
		}
		if !plan.Blocked() {
			t.Errorf("%s: a guest that nothing can fix is not blocked", name)
		}
	}
}

func TestAFixerThatFailsLeavesNothingBehind(t *testing.T) {
	broken := func(name string, vital bool) fixer.Fixer {
		return fixer.Fixer{Name: name, Why: "test", Vital: vital, Applies: func(fixer.Input) bool { return true },
			Plan: func(_ context.Context, g *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
				if err := g.Write("/etc/"+filepath.Base(name), []byte("half")); err != nil {
					return nil, err
				}
				return nil, errors.New("out of luck")
			}}
	}
	good := fixer.Fixer{Name: "test/good", Why: "test", Applies: func(fixer.Input) bool { return true },
		Plan: func(_ context.Context, g *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
			return nil, g.Write("/etc/good", []byte("x"))
		}}
	plan := makePlan(t, []fixer.Fixer{broken("test/a", false), good, broken("test/b", true)}, tree.New(), fixer.Input{})
	var paths, levels []string
	for _, c := range plan.Changes {
		paths = append(paths, c.Path)
	}
	for _, c := range plan.Concerns {
		levels = append(levels, string(c.Level)+" "+c.Code)
	}
	if diff := cmp.Diff([]string{"/etc", "/etc/good"}, paths); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"warning test/a/failed", "blocker test/b/failed"}, levels); diff != "" {
		t.Errorf("concerns (-want +got):\n%s", diff)
	}
	if !plan.Blocked() {
		t.Error("a vital fixer failed and the plan is not blocked")
	}
}

func TestAFixerThatPanicsIsAFixerThatFails(t *testing.T) {
	odd := fixer.Fixer{Name: "test/odd", Why: "test", Vital: true, Applies: func(fixer.Input) bool { return true },
		Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
			return nil, g.Write("/etc/odd", []byte(in.Facts.Kernels[1].Version))
		}}
	plan := makePlan(t, []fixer.Fixer{odd}, tree.New(), fixer.Input{})
	if len(plan.Changes) > 0 || !plan.Blocked() || !strings.Contains(plan.Concerns[0].Text, "index out of range") {
		t.Errorf("plan = %+v", plan)
	}
}

func TestAPlanThatDoesNotFitIsBlocked(t *testing.T) {
	fill := fixer.Fixer{Name: "test/fill", Why: "test", Applies: func(fixer.Input) bool { return true },
		Plan: func(_ context.Context, g *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
			return nil, g.Write("/a", make([]byte, 10_000))
		}}
	files := tree.New()
	files.Limit = 8192
	plan := makePlan(t, []fixer.Fixer{fill}, files, fixer.Input{})
	if !plan.Blocked() || plan.Concerns[0].Code != "guest/no-room" || !strings.Contains(plan.Concerns[0].Text, "8 KiB left") {
		t.Errorf("concerns %+v", plan.Concerns)
	}
}

// A plan that lacks its last fixer's changes would be applied as if it were whole.
func TestAPlanThatIsCancelledInItsLastFixerIsNone(t *testing.T) {
	why := errors.New("the operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	last := fixer.Fixer{Name: "test/last", Why: "test", Applies: func(fixer.Input) bool { return true },
		Plan: func(ctx context.Context, _ *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
			cancel(why)
			return nil, context.Cause(ctx)
		}}
	if plan, err := Make(ctx, []fixer.Fixer{last}, tree.New(), fixer.Input{}, quiet); !errors.Is(err, why) {
		t.Errorf("Make = %+v, %v, want %v", plan, err, why)
	}
}

func TestAPlanThatIsCancelledSaysWhy(t *testing.T) {
	why := errors.New("the operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := Make(ctx, All(), tree.New(), fixer.Input{}, quiet); !errors.Is(err, why) {
		t.Errorf("err = %v, want %v", err, why)
	}
}

func TestAGuestWithoutAnythingToDoGivesAnEmptyPlan(t *testing.T) {
	in := fixer.Input{Facts: inspect.Facts{OS: inspect.OS{Family: inspect.Linux}}}
	plan := makePlan(t, All(), tree.New(), in)
	if len(plan.Changes)+len(plan.Concerns) > 0 || len(plan.Skipped) != len(All()) {
		t.Errorf("plan of an empty guest: %+v", plan)
	}
}

func TestAReadOnlySubvolumeIsNotPlannedFor(t *testing.T) {
	f := inspect.Facts{
		OS:       inspect.OS{Family: inspect.Linux},
		Topology: guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk0p1", Type: "btrfs", Subvolumes: []guest.Subvolume{{ID: 260, Path: "/@/.snapshots/1/snapshot", ReadOnly: true}, {ID: 256, Path: "/@/var"}}}}},
		Mounts:   []inspect.Mount{{Device: "disk0p1", Path: "/", Subvolume: 260}, {Device: "disk0p1", Path: "/var", Subvolume: 256}},
	}
	for name, want := range map[string]bool{"/etc/x": true, "/var/x": false} {
		writes := fixer.Fixer{Name: "test/writes", Applies: func(fixer.Input) bool { return true },
			Plan: func(_ context.Context, v *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
				return nil, v.Write(name, []byte("x"))
			}}
		plan := makePlan(t, []fixer.Fixer{writes}, tree.New(), fixer.Input{Facts: f})
		if plan.Blocked() != want || want && (plan.Concerns[0].Code != "guest/read-only" || !strings.Contains(plan.Concerns[0].Text, "/@/.snapshots/1/snapshot of disk0p1")) {
			t.Errorf("%s: concerns %+v", name, plan.Concerns)
		}
	}
}
