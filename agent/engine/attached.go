package engine

import (
	"slices"

	"hyper2kvm/agent/api/model"
)

// attached is what this appliance reaches besides what its settings alone say.
type attached struct {
	storages []string // those of the settings too
	disks    []string
}

// Attach says which storages there are besides those of the settings, and which disks
// migrations may use: source:ID and target:ID. What was there before is not any more,
// unless it is said again. Others hear of it with the next heartbeat.
func (e *Engine) Attach(storages, disks []string) {
	e.mu.Lock()
	e.reach = attached{slices.Concat(e.config.Storages, storages), disks}
	e.mu.Unlock()
	e.ring()
}

func (e *Engine) attachedNow() attached {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reach
}

// offered is what this appliance reaches.
func (e *Engine) offered() []string {
	now := e.attachedNow()
	return offers(now.storages, e.config.Servers, now.disks)
}

// Disks are those that some appliance has, or this one: source:ID and target:ID.
func (e *Engine) Disks() []string {
	return e.names(e.attachedNow().disks, func(n node) []string { return n.Disks })
}

// Elsewhere are the storages that other appliances reach.
func (e *Engine) Elsewhere() (list []string) {
	e.nodes.mu.Lock()
	defer e.nodes.mu.Unlock()
	for id, told := range e.nodes.list {
		if id != e.id {
			list = append(list, told.Storages...)
		}
	}
	return list
}

// Using are the migrations that use something, as Uses names it, and have not come to
// their end. One that has failed has, though it may be tried again.
func (e *Engine) Using(use string) (list []string) {
	for _, r := range e.table.all() {
		ended := r.State == model.StateDone || r.State == model.StateFailed || r.State == model.StateCancelled
		if !ended && slices.Contains(Uses(r.Spec), use) {
			list = append(list, r.ID)
		}
	}
	return list
}
