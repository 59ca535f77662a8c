package pipeline

import (
	"context"
	"fmt"
	"slices"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// fix applies exactly the planned changes, keeps their inverse, and puts disks that
// grow to use as it is planned. It verifies that the file systems that it wrote to
// are whole, and inspects and plans once more: a guest that is mended needs no change.
func (r *Run) fix(ctx context.Context) error {
	if err := r.mount(ctx); err != nil {
		return err
	}
	undo, err := guest.Apply(r.guest, r.Plan.Changes)
	if err != nil {
		return err
	}
	r.Undo = undo
	if err := r.grow(ctx); err != nil {
		return err
	}
	if r.Checks.After, err = r.check(ctx, r.guest, "fix", union(writtenTo(*r.Facts, r.Plan.Changes), r.grownWith())); err != nil {
		return err
	}
	if worse := newlyDamaged(r.Checks.Before, r.Checks.After); len(worse) > 0 {
		return fmt.Errorf("%w: %s: %s", ErrDamage, worse[0].Device, worse[0].Text)
	}
	facts, err := r.look(ctx, nil)
	if err != nil {
		return fmt.Errorf("inspect what was fixed: %w", err)
	}
	r.Fixed = &facts
	again, err := r.makePlan(ctx, facts, sizeNow)
	if err != nil {
		return fmt.Errorf("plan what was fixed: %w", err)
	}
	r.Again = &again
	r.Plan.Concerns = append(r.Plan.Concerns, unsettled(*r.Plan, again)...)
	return r.closeGuest() // writes all of it through to the overlay
}

// unsettled is what planning after FIX tells that planning before did not.
func unsettled(before, again fixers.Plan) []fixer.Concern {
	const try = "report this as a bug, with the report"
	var news []fixer.Concern
	if n := len(again.Changes); n > 0 {
		news = append(news, fixer.Concern{Level: fixer.Warning, Code: "fix/not-settled", Try: try,
			Text: fmt.Sprintf("planning again gives %d changes, the first by %s of %s", n, again.Changes[0].Fixer, again.Changes[0].Path)})
	}
	for _, s := range again.Resizes {
		news = append(news, fixer.Concern{Level: fixer.Warning, Code: "fix/not-settled", Try: try,
			Text: fmt.Sprintf("planning again would grow what is on %s once more", s.Disk)})
	}
	for _, c := range again.Concerns {
		known := func(b fixer.Concern) bool { return b.Code == c.Code }
		if c.Level != fixer.Info && !slices.ContainsFunc(before.Concerns, known) {
			news = append(news, fixer.Concern{Level: fixer.Warning, Code: "fix/new-concern", Try: try,
				Text: fmt.Sprintf("planning again meets %s: %s", c.Code, c.Text)})
		}
	}
	return news
}
