package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/transfer"
)

// reporter tells what a run does.
type reporter struct {
	run   *pipeline.Run
	tell  func(engine.Update)
	disks map[int]transfer.Progress
	told  time.Time // when a copy's progress was told last
}

// often is how often a copy's progress is told.
const often = time.Second

func (t *reporter) event(e pipeline.Event) {
	if e.Progress != nil {
		t.copying(e)
		return
	}
	u := engine.Update{Text: pipeline.Line(e.Text), Stages: stages(t.run.Migration), Plan: summary(t.run.Migration)}
	if e.State == pipeline.Running && e.Text != "" {
		t.disks = map[int]transfer.Progress{} // another copy begins
	}
	t.tell(u)
}

func (t *reporter) copying(e pipeline.Event) {
	if t.disks == nil {
		t.disks = map[int]transfer.Progress{}
	}
	t.disks[e.Disk] = *e.Progress
	var all model.Progress
	for _, p := range t.disks {
		all.Virtual, all.Total = all.Virtual+p.Virtual, all.Total+p.Total
		all.Wire, all.Allocated = all.Wire+p.Wire, all.Allocated+p.Allocated
	}
	if now := time.Now(); all.Virtual == all.Total || now.Sub(t.told) >= often {
		t.told = now
		t.tell(engine.Update{Progress: all})
	}
}

// stages are a migration's, as the API shows them.
func stages(m *pipeline.Migration) (list []model.Stage) {
	for _, s := range m.Stages {
		list = append(list, model.Stage{Name: model.StageName(s.Name), State: model.StageState(s.State), Reason: pipeline.Line(s.Reason), Began: s.Began, Took: float32(s.Took.Seconds())})
	}
	return list
}

// summary is a migration's plan in short.
func summary(m *pipeline.Migration) (p model.PlanSummary) {
	if m.Plan == nil || m.Stage("plan").State != pipeline.Done {
		return p
	}
	p.Digest, p.Changes = digest(m), len(m.Plan.Changes)+len(m.Plan.Resizes)
	for _, c := range m.Plan.Concerns {
		switch c.Level {
		case fixer.Blocker:
			p.Blockers++
		case fixer.Warning:
			p.Warnings++
		}
	}
	return p
}

// digest is the plan's. What a VM's server says of it is no part of that: it is another
// while the VM runs than when it is at rest, and nothing that is done follows from it.
func digest(m *pipeline.Migration) model.Digest {
	plan := *m.Plan
	if len(m.Concerns) > 0 {
		plan.Concerns = slices.DeleteFunc(append([]fixer.Concern{}, plan.Concerns...), func(c fixer.Concern) bool { return slices.Contains(m.Concerns, c) })
	}
	text, err := json.Marshal(plan)
	if err != nil { // it is data that was marshalled before
		panic(err)
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// verdict is what came of a migration that has come to its end.
func verdict(m *pipeline.Migration) model.Verdict {
	switch {
	case m.Undone:
		return model.VerdictUndone
	case m.Options.Until == "plan", m.Options.Until == "inspect":
		return model.VerdictRead
	case m.Outcome != nil && m.Stage("test").State == pipeline.Done:
		return model.VerdictProved
	}
	return model.VerdictUntested
}
