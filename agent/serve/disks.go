package serve

import (
	"context"
	"fmt"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/disks"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/worker"
)

// settingsStorages are those that the settings name.
func (a *agent) settingsStorages() (list storage.List) {
	for _, s := range a.settings.Storages {
		list = append(list, storage.Storage{Name: s.Name, Path: s.Path, Use: s.Use})
	}
	return list
}

// reach finds the storages of the settings. Those on attached disks come later.
func (a *agent) reach() error {
	fixed := a.settingsStorages()
	if err := fixed.There(); err != nil {
		return fmt.Errorf("%w: %w", config.ErrSettings, err)
	}
	a.storages = storage.NewSet(fixed)
	return nil
}

// reserved are the names that no storage on an attached disk may have: another appliance
// would take its folder for that one.
func (a *agent) reserved() []string {
	return append(a.settingsStorages().Names(), a.engine.Elsewhere()...)
}

// attach does with the attached disks what they were chosen for. Until then nothing that
// uses one is taken.
func (a *agent) attach(ctx context.Context, w *worker.Worker) (err error) {
	a.disks, err = disks.Open(disks.Config{Machine: a.machine, State: a.settings.State, Reserved: a.reserved, Migrations: a.engine.Using, Log: a.log,
		Changed: func(list storage.List, offers []string) {
			a.storages.Change(list)
			a.engine.Attach(list.Names(), offers)
		}})
	if err != nil {
		return err
	}
	w.Disks = a.disks
	return a.disks.Begin(ctx)
}
