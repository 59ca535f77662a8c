package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	text, err := json.Marshal(m.Plan)
	if err != nil { // it is data that was marshalled before
		panic(err)
	}
	sum := sha256.Sum256(text)
	p.Digest, p.Changes = "sha256:"+hex.EncodeToString(sum[:]), len(m.Plan.Changes)+len(m.Plan.Resizes)
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
