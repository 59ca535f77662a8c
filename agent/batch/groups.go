package batch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/layers"
	"hyper2kvm/agent/spec"
)

// group is one as a file says it.
type group struct {
	model.BatchGroup
	*layers.Value
	path string
}

func groupOf(v *layers.Value, i int) group {
	g := group{Value: v, path: fmt.Sprintf("groups[%d]", i)}
	if name := v.Fields["name"]; name != nil {
		g.Name, _ = name.Scalar.(string) // the schema says so
	}
	for _, m := range v.Fields["migrations"].List {
		text, _ := m.Scalar.(string)
		g.Migrations = append(g.Migrations, text)
	}
	return g
}

// maxID is how long an ID is, as the API describes it.
const maxID = 63

// identify gives IDs to the migrations of a batch with a name, the same each time.
func identify(requests []model.MigrationRequest, batch string) {
	taken := map[string]bool{}
	for _, r := range requests {
		taken[r.ID] = true
	}
	for i := range requests {
		r := &requests[i]
		if r.ID != "" || batch == "" {
			continue
		}
		word := spec.Plain(batch + "-" + cmp.Or(r.Spec.Name, spec.SourceName(r.Spec.Source)))
		for n := 1; r.ID == "" || taken[r.ID]; n++ {
			end := ""
			if n > 1 {
				end = fmt.Sprintf("-%d", n)
			}
			r.ID = strings.TrimRight(word[:min(len(word), maxID-len(end))], "-") + end
		}
		taken[r.ID] = true
	}
}

// group has each migration of a group come after the one before it.
func (b *batch) group(requests []model.MigrationRequest) {
	byName := map[string][]int{}
	for i, r := range requests {
		name := cmp.Or(r.Spec.Name, spec.SourceName(r.Spec.Source))
		byName[name] = append(byName[name], i)
		if r.ID != "" && r.ID != name {
			byName[r.ID] = append(byName[r.ID], i)
		}
	}
	for _, g := range b.groups {
		before := ""
		for n, text := range g.Migrations {
			i, ok := g.one(b, byName[text], n, text)
			if !ok {
				return
			}
			s := &requests[i].Spec.Schedule
			if before != "" && !slices.Contains(s.After, before) {
				s.After = append(slices.Clone(s.After), before)
			}
			if before = requests[i].ID; before == "" {
				b.fault(layers.Fault{Origin: b.entries[i].Origin, Path: b.entries[i].path + ".id", Words: "it is in a group: write an id, or give the batch a name"})
				return
			}
		}
	}
}

// one is the migration that a group's entry means.
func (g group) one(b *batch, found []int, n int, text string) (int, bool) {
	path, at := fmt.Sprintf("%s.migrations[%d]", g.path, n), g.Fields["migrations"].List[n].Origin
	switch len(found) {
	case 1:
		return found[0], true
	case 0:
		b.fault(layers.Fault{Origin: at, Path: path, Words: fmt.Sprintf("there is no migration %q in the batch: write a name or an ID", text)})
	default:
		b.fault(layers.Fault{Origin: at, Path: path, Words: fmt.Sprintf("%d migrations are called %q: write an ID", len(found), text)})
	}
	return 0, false
}
