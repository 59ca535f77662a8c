package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/notify"
	"hyper2kvm/agent/watchfolder"
	"hyper2kvm/agent/webhook"
)

// patience is how long a sealed secret may take to be read.
const patience = 10 * time.Second

// sealed is a secret of the settings.
func (a *agent) sealed(name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a.secrets.Open(ctx, name)
}

// webhook is one that hooks may name.
func (a *agent) webhook(name string) (webhook.Target, error) {
	for _, w := range a.settings.Hooks.Webhooks {
		if w.Name == name {
			return notify.Target(w, a.sealed)
		}
	}
	return webhook.Target{}, fmt.Errorf("the settings have no webhook %q under hooks.webhooks", name)
}

// inform tells people and programs what becomes of migrations. Where each receiver is, is
// kept with the events, so that none is left out or told twice when the agent is started
// again. Of several appliances with such a receiver one tells each.
func (a *agent) inform(ctx context.Context) {
	for _, r := range notify.Receivers(a.settings.Notify, a.sealed, a.log) {
		go func() {
			for ctx.Err() == nil {
				err := a.engine.Each(ctx, "notify-"+r.Name, func(e engine.Numbered, try int) time.Duration { return a.pass(ctx, r, e, try) })
				if err == nil || ctx.Err() != nil {
					continue
				}
				a.log.Warn("what happens is not told for a moment", "receiver", r.Name, "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(patience):
				}
			}
		}()
	}
}

// pass tells a receiver of an event, if it is of another state.
func (a *agent) pass(ctx context.Context, r *notify.Receiver, e engine.Numbered, try int) (again time.Duration) {
	var v model.Event
	if err := json.Unmarshal(e.JSON, &v); err != nil {
		a.log.Error("an event cannot be read", "event", e.Number, "err", err)
		return 0 // it would not be read the next time
	}
	if v.Was == "" {
		return 0
	}
	return r.Tell(ctx, notify.Message{ID: fmt.Sprintf("%s.%d", v.Migration, e.Number), Time: v.Time, Appliance: a.settings.Appliance.Name, Migration: v.Migration, Name: v.Name,
		State: v.State, Verdict: v.Verdict, Detail: cmp.Or(v.Problem.Detail, v.Text), Try: v.Problem.Try}, try)
}

func (a *agent) watchFolder(w config.Watch) *watchfolder.Watcher {
	f := watchfolder.Folder{Storage: w.Storage, Path: cmp.Or(w.Folder, "."), Settled: time.Duration(w.Settled), Spec: w.Spec}
	for _, s := range a.storages.Now() {
		if s.Name == w.Storage {
			f.Root = s.Path
		}
	}
	f.Spec.Target.Storage = w.Target
	return watchfolder.New(f, a.engine, a.log)
}
