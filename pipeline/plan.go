package pipeline

import (
	"context"
	"errors"
	"slices"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

// plan works out every change, or takes the plan that was approved. A blocker
// ends the migration here, before anything is written.
func (r *Run) plan(ctx context.Context) error {
	if r.Options.Plan != nil {
		approved := *r.Options.Plan // FIX adds concerns to its copy
		reviewed := approved.Target
		approved.Target = r.becomes() // by the maps of this run, which goes by no others
		approved.Concerns = append(r.withStorages(r.withDamage(approved.Concerns)), retargeted(reviewed, approved.Target)...)
		r.Plan = &approved
		if err := r.asApproved(approved); err != nil {
			return err
		}
		return r.Blocker()
	}
	plan, err := r.makePlan(ctx, *r.Facts, sizeBefore)
	if err != nil {
		return err
	}
	plan.Concerns = r.withStorages(r.withDamage(append([]fixer.Concern{}, slices.Concat(r.Concerns, sourceConcerns(r.Machine), r.Options.Target.unmapped(r.Machine), plan.Concerns)...)))
	plan.Target = r.becomes()
	r.Plan = &plan
	if err := r.asNamed(plan.Resizes); err != nil {
		return err
	}
	if r.Options.Until == "plan" {
		return nil // whoever asked for the plan reads the blockers in it
	}
	return r.Blocker()
}

// makePlan plans the fixers' changes, and what is done about disks that had other
// sizes.
func (r *Run) makePlan(ctx context.Context, facts inspect.Facts, from func(machine.Disk) int64) (fixers.Plan, error) {
	if err := r.mount(ctx); err != nil {
		return fixers.Plan{}, err
	}
	plan, err := fixers.Make(ctx, r.fixers(), r.guest, fixer.Input{Facts: facts, Machine: r.Machine}, r.log)
	if err := errors.Join(err, r.guest.Err()); err != nil {
		return fixers.Plan{}, err
	}
	plan.Resizes = r.resizes(&facts, from)
	plan.Concerns = append(plan.Concerns, growConcerns(plan.Resizes)...)
	return plan, nil
}
