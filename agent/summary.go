package main

import (
	"fmt"
	"strings"

	"hyper2kvm/agent/problem"
	"hyper2kvm/pipeline"
)

// summary is what the operator reads at the end: the verdict, then where
// everything is.
func (a *app) summary(r *pipeline.Run, err error) {
	a.sumUp(r.Migration, r.Results(), err)
}

func (a *app) sumUp(r *pipeline.Migration, results []pipeline.Result, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", verdict(r, err))
	for _, c := range concerns(r) {
		fmt.Fprintf(&b, "  %s\n", c)
	}
	if r.Outcome != nil {
		for _, u := range r.Outcome.Unasked {
			fmt.Fprintf(&b, "  %-12s%s\n", "not asked", pipeline.Line(u))
		}
	}
	for _, d := range r.Disks {
		fmt.Fprintf(&b, "  %-12s%s (%s, %s of %s on storage)\n", "disk", d.Path, d.Format, size(d.Allocated), size(d.Size))
	}
	for _, f := range results {
		fmt.Fprintf(&b, "  %-12s%s\n", f.What, f.Path)
	}
	fmt.Fprint(a.stdout, b.String())
}

func verdict(r *pipeline.Migration, err error) string {
	switch {
	case err == nil && r.Outcome != nil:
		return fmt.Sprintf("%s: PROVED to boot on KVM hardware (%s)", r.Name, r.Accel.Name)
	case err == nil:
		return r.Name + ": done, NOT TESTED"
	case kindOf(err) == problem.NotProved:
		return r.Name + ": NOT PROVED to boot"
	case kindOf(err) == problem.Blocked:
		return r.Name + ": BLOCKED, nothing was converted"
	default:
		return r.Name + ": NOT DONE"
	}
}

func concerns(r *pipeline.Migration) []string {
	if r.Plan == nil {
		return nil
	}
	var lines []string
	for _, c := range r.Plan.Concerns {
		line := fmt.Sprintf("%-12s%s: %s", c.Level, c.Code, c.Text)
		if c.Try != "" {
			line += "; " + c.Try
		}
		lines = append(lines, pipeline.Line(line))
	}
	return lines
}
