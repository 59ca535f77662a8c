// Package fixers plans the repairs that make a guest of VMware boot on KVM.
// All is the one list of fixers and their order; a Plan is what they would do
// to one guest, complete and reviewable before anything is touched.
package fixers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/fixers/linux"
	"hyper2kvm/pipeline/machine"
)

// All is every fixer in the order in which they plan: a later one sees the
// edits of those before it.
func All() []fixer.Fixer {
	return linux.Fixers
}

// Plan is the complete set of changes to one guest, and what the operator
// should know before they are made.
type Plan struct {
	Changes  []guest.Change  `json:"changes"`
	Resizes  []guest.Resize  `json:"resizes,omitempty"` // of disks that are to grow
	Concerns []fixer.Concern `json:"concerns"`
	Skipped  []Skip          `json:"skipped"` // fixers with nothing to do, and why
	// Target is what maps and other wishes make of the machine; nil where no target is made.
	Target *machine.Becomes `json:"target,omitempty"`
}

// Skip is a fixer that made no change.
type Skip struct {
	Fixer  string `json:"fixer"`
	Reason string `json:"reason"`
}

// Blocked tells whether a concern forbids the migration.
func (p Plan) Blocked() bool {
	for _, c := range p.Concerns {
		if c.Level == fixer.Blocker {
			return true
		}
	}
	return false
}

// Make plans the fixers over a guest's files without touching them. A fixer
// that fails leaves no edit behind and becomes a concern: a blocker if the
// guest cannot boot without it, else a warning. The error is the context's.
func Make(ctx context.Context, list []fixer.Fixer, files guest.Reader, in fixer.Input, log *slog.Logger) (Plan, error) {
	view := guest.NewView(files)
	plan := Plan{Changes: []guest.Change{}, Concerns: []fixer.Concern{}, Skipped: []Skip{}}
	if !slices.ContainsFunc(list, func(f fixer.Fixer) bool { return f.Applies(in) }) {
		plan.Concerns = append(plan.Concerns, unfixable(in.Facts.OS))
	}
	for _, f := range list {
		if ctx.Err() != nil {
			return Plan{}, context.Cause(ctx)
		}
		if !f.Applies(in) {
			plan.Skipped = append(plan.Skipped, Skip{f.Name, "does not apply to this guest"})
			continue
		}
		mark, before := view.Mark(), len(view.Changes())
		view.As(f.Name, f.Why)
		concerns, err := planned(ctx, f, view, in, log)
		if ctx.Err() != nil { // a plan that lacks what this fixer was about must not pass for one
			return Plan{}, context.Cause(ctx)
		}
		plan.Concerns = append(plan.Concerns, concerns...)
		if err != nil {
			view.Rollback(mark)
			log.Warn("fixer could not plan", "fixer", f.Name, "err", err)
			plan.Concerns = append(plan.Concerns, failed(f, err))
			continue
		}
		if len(view.Changes()) == before {
			plan.Skipped = append(plan.Skipped, Skip{f.Name, "nothing to change"})
		}
	}
	plan.Changes = append(plan.Changes, view.Changes()...)
	plan.Concerns = append(plan.Concerns, readOnly(in.Facts, plan.Changes)...)
	short, err := guest.Shortages(files, plan.Changes)
	if err != nil {
		log.Warn("room for the changes not known", "err", err)
	}
	for _, s := range short {
		plan.Concerns = append(plan.Concerns, noRoom(s))
	}
	return plan, nil
}

// readOnly is the blocker where changes would be in a subvolume that the guest keeps
// read-only, as a system does that is updated as a whole: such ones are never
// written to.
func readOnly(f inspect.Facts, changes []guest.Change) []fixer.Concern {
	for _, c := range changes {
		m, _ := f.MountOf(c.Path)
		if s, ok := f.SubvolumeOf(m); ok && s.ReadOnly {
			return []fixer.Concern{{
				Level: fixer.Blocker,
				Code:  "guest/read-only",
				Text:  fmt.Sprintf("%s is in the subvolume %s of %s, which is read-only", c.Path, s.Path, m.Device),
				Try:   "make it writable in the guest (btrfs property set / ro false), and migrate again",
			}}
		}
	}
	return nil
}

func noRoom(s guest.Shortage) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Blocker,
		Code:  "guest/no-room",
		Text:  fmt.Sprintf("the file system of %s has %d KiB left, and the changes need %d KiB there", s.Folder, s.Free>>10, (s.Need+1023)>>10),
		Try:   "make room there in the guest (remove an old kernel), and migrate again",
	}
}

// unfixable is the blocker where no fixer knows the guest's system: it would be
// copied as it is, and fail on KVM.
func unfixable(os inspect.OS) fixer.Concern {
	return fixer.Concern{Level: fixer.Blocker, Code: "guest/unsupported",
		Text: fmt.Sprintf("no fixer knows this guest's system: %s (%s)", cmp.Or(os.Name, os.Family, "not told"), os.Source),
		Try:  "convert it by other means; only Linux guests are known yet"}
}

// planned is what a fixer plans. A panic over a guest's odd file is a failure of
// that fixer, not the end of every other migration in this process.
func planned(ctx context.Context, f fixer.Fixer, view *guest.View, in fixer.Input, log *slog.Logger) (concerns []fixer.Concern, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("fixer panicked", "fixer", f.Name, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("this is a bug, please report it: %v", p)
		}
	}()
	return f.Plan(ctx, view, in)
}

func failed(f fixer.Fixer, err error) fixer.Concern {
	c := fixer.Concern{Level: fixer.Warning, Code: f.Name + "/failed", Text: err.Error(), Try: "its changes are left out; check this part of the guest by hand"}
	if f.Vital {
		c.Level, c.Try = fixer.Blocker, "the guest would not boot without it; mend the cause in the guest and migrate again"
	}
	if errors.Is(err, guest.ErrTooBig) {
		c.Text = fmt.Sprintf("%v: it is too large to be what it should be", err)
	}
	return c
}
