package batch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/layers"
	"hyper2kvm/agent/spec"
)

// apart finds migrations that would be one another: of one ID, or of one folder.
func (b *batch) apart(requests []model.MigrationRequest) {
	ids, folders := map[string]int{}, map[string]int{}
	for i, r := range requests {
		if first, ok := ids[r.ID]; ok && r.ID != "" {
			b.wrong(i, "id", "%s is the ID of the one in %s too: give each its own", r.ID, b.entries[first].Origin)
		}
		ids[r.ID] = i
		name := cmp.Or(r.Spec.Name, spec.SourceName(r.Spec.Source))
		for _, storage := range targets(r.Spec.Target) {
			folder := storage + "/" + name
			if first, ok := folders[folder]; ok {
				b.wrong(i, "name", "%s in the storage %s is the folder of the one in %s too: give each a name of its own", name, storage, b.entries[first].Origin)
			}
			folders[folder] = i
		}
	}
}

// targets are the storages that a migration's results go to, each once.
func targets(t model.Target) []string {
	list := slices.Sorted(maps.Values(t.Storages))
	if t.Storage != "" { // else it has no folder that stays
		list = append(list, t.Storage)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (b *batch) wrong(i int, field, format string, args ...any) {
	b.fault(layers.Fault{Origin: b.entries[i].Origin, Path: b.entries[i].path + "." + field, Words: fmt.Sprintf(format, args...)})
}

// order finds migrations that wait for one another, and would wait for ever. Those
// that are not in the batch may be there already.
func (b *batch) order(requests []model.MigrationRequest) {
	byID := map[string]int{}
	for i, r := range requests {
		if r.ID != "" {
			byID[r.ID] = i
		}
	}
	done := make([]bool, len(requests))
	for i := range requests {
		if circle := waits(requests, byID, done, i, nil); circle != nil {
			b.wrong(i, "schedule.after", "waits for itself: %s", strings.Join(circle, " after "))
			return
		}
	}
}

// waits follows what a migration comes after, and returns the circle that it finds.
func waits(requests []model.MigrationRequest, byID map[string]int, done []bool, i int, way []string) []string {
	for at, id := range way {
		if id == requests[i].ID {
			return append(way[at:], id)
		}
	}
	if done[i] {
		return nil
	}
	way = append(way, requests[i].ID)
	for _, id := range requests[i].Spec.Schedule.After {
		if next, ok := byID[id]; ok {
			if circle := waits(requests, byID, done, next, way); circle != nil {
				return circle
			}
		}
	}
	done[i] = true
	return nil
}
