package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/hooks"
	"hyper2kvm/agent/webhook"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/durable"
)

// hook is one that a runner runs, with where it goes.
type hook struct {
	hooks.Hook
	When   model.HookWhen
	Stage  string
	Target webhook.Target // of a webhook; it goes through the runner's socket alone
}

// hooks are those that a spec asks for. One that cannot be run here is refused before
// anything is begun.
func (w *Worker) hooks(list []model.Hook) (all []hook, err error) {
	for _, h := range list {
		v := hook{Hook: hooks.Hook{Program: h.Program, Webhook: h.Webhook, Timeout: time.Duration(h.Timeout) * time.Second, OnFailure: string(h.OnFailure)},
			When: h.When, Stage: string(h.Stage)}
		if err := w.Hooks.Check(v.Hook); err != nil {
			return nil, err
		}
		if h.Webhook != "" {
			if v.Target, err = w.Hooks.Webhooks(h.Webhook); err != nil {
				return nil, err
			}
		}
		all = append(all, v)
	}
	return all, nil
}

// hooksFile tells, in a migration's folder, of the hooks that have run.
const hooksFile = "hooks.json"

// hooked runs the hooks of one migration.
type hooked struct {
	order  order
	runner hooks.Runner
	log    *slog.Logger
	ran    []ran
}

// ran is a hook that has run.
type ran struct {
	Index int            `json:"index"` // in the spec
	When  model.HookWhen `json:"when"`
	Stage string         `json:"stage"`
	Began time.Time      `json:"began"`
	hooks.Result
}

// errHook is a hook whose failure ends the migration.
var errHook = errors.New("a hook failed")

func newHooked(o order, log *slog.Logger) (*hooked, error) {
	h := &hooked{order: o, log: log}
	h.runner = hooks.Runner{Folder: o.HooksFolder, User: o.HooksUser, Webhooks: h.target}
	text, err := os.ReadFile(filepath.Join(o.Folder, hooksFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &h.ran); err != nil {
		return nil, fmt.Errorf("%w: %s is damaged: %w", pipeline.ErrRecord, hooksFile, err)
	}
	return h, nil
}

// target is a webhook's, as the agent has resolved it.
func (h *hooked) target(name string) (webhook.Target, error) {
	for _, v := range h.order.Hooks {
		if v.Webhook == name {
			return v.Target, nil
		}
	}
	return webhook.Target{}, fmt.Errorf("there is no webhook %s", name)
}

// before runs what is to run when a stage is about to: what comes after stages that are
// done and has not run, and what comes before this one.
func (h *hooked) before(ctx context.Context, m *pipeline.Migration, stage string) error {
	if err := h.after(ctx, m); err != nil {
		return err
	}
	for i, v := range h.order.Hooks {
		if v.When == model.HookWhenBefore && v.Stage == stage {
			if err := h.run(ctx, m, i, model.StateRunning); err != nil {
				return err
			}
		}
	}
	return nil
}

// after runs what comes after stages that are done and has not run.
func (h *hooked) after(ctx context.Context, m *pipeline.Migration) error {
	for i, v := range h.order.Hooks {
		if v.When != model.HookWhenAfter || m.Stage(v.Stage).State != pipeline.Done || h.done(i) {
			continue
		}
		state := model.StateRunning
		if m.Finished() {
			state = model.StateDone
		}
		if err := h.run(ctx, m, i, state); err != nil {
			return err
		}
	}
	return nil
}

// done tells whether a hook has run, and not failed in a way that stops the migration.
func (h *hooked) done(i int) bool {
	return slices.ContainsFunc(h.ran, func(r ran) bool { return r.Index == i && !r.Stops })
}

func (h *hooked) run(ctx context.Context, m *pipeline.Migration, i int, state model.State) error {
	v := h.order.Hooks[i]
	r := ran{Index: i, When: v.When, Stage: v.Stage, Began: time.Now().UTC()}
	d := hooks.Document{Migration: h.order.ID, Name: m.Name, When: string(v.When), Stage: model.StageName(v.Stage), Folder: h.order.Folder, State: state}
	if state == model.StateDone {
		d.Verdict = verdict(m)
	}
	var err error
	if r.Result, err = h.runner.Run(ctx, v.Hook, d); err != nil {
		return err
	}
	h.log.Info("hook ran", "migration", h.order.ID, "hook", r.Hook, "when", r.When, "stage", r.Stage, "outcome", r.Outcome, "took", r.Took)
	h.ran = append(h.ran, r)
	if err := h.save(); err != nil {
		return err
	}
	if r.Stops {
		return fmt.Errorf("%w: %s %s %s: %s", errHook, r.Hook, r.When, r.Stage, r.Words)
	}
	return nil
}

// maxRan is how many runs of hooks are told of.
const maxRan = 200

func (h *hooked) save() error {
	if over := len(h.ran) - maxRan; over > 0 {
		h.ran = h.ran[over:]
	}
	text, err := json.MarshalIndent(h.ran, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(h.order.Folder, hooksFile), append(text, '\n'))
}
