package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
)

// table is every migration, as this appliance has seen it last.
type table struct {
	mu       sync.Mutex
	list     map[string]*seen // each is replaced, and never written
	live     map[string]*seen // those of them that have not ended
	revision int64            // up to which everything was seen
	changed  *sync.Cond
	once     sync.Once
	complete chan struct{} // closed when all that was kept was seen
}

// seen is a record, and the revision by which its owner took it: the lowest at which
// this appliance knows of its epoch.
type seen struct {
	Record
	claimed int64
}

func (t *table) init() {
	t.list, t.live, t.complete = map[string]*seen{}, map[string]*seen{}, make(chan struct{})
	t.changed = sync.NewCond(&t.mu)
}

// put takes a newer record, and returns what was known of it before.
func (t *table) put(r Record) (was seen, newer bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.list[r.ID]; known != nil {
		was = *known
	}
	if was.Revision >= r.Revision {
		return was, false
	}
	now := &seen{r, r.Revision}
	if was.Epoch == r.Epoch && was.claimed > 0 {
		now.claimed = was.claimed
	}
	t.list[r.ID] = now
	if delete(t.live, r.ID); !r.ended() {
		t.live[r.ID] = now
	}
	return was, true
}

// reached notes that everything up to a revision was seen.
func (t *table) reached(revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revision = max(t.revision, revision)
	t.changed.Broadcast()
}

// keepOnly forgets what is not there any more.
func (t *table) keepOnly(there map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := func(id string, r *seen) bool { return !there[id] && r.Revision <= t.revision }
	maps.DeleteFunc(t.list, gone)
	maps.DeleteFunc(t.live, gone)
}

func (t *table) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.list, id)
	delete(t.live, id)
}

// await waits until everything up to a revision was seen, or ctx ends.
func (t *table) await(ctx context.Context, revision int64) bool {
	defer context.AfterFunc(ctx, t.changed.Broadcast)()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.revision < revision && ctx.Err() == nil {
		t.changed.Wait()
	}
	return t.revision >= revision
}

// get is one migration. Its slices are shared, and not to be written.
func (t *table) get(id string) (seen, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.list[id]; r != nil {
		return *r, true
	}
	return seen{}, false
}

// all are the migrations, newest first. Their slices are shared, and not to be written.
func (t *table) all() []seen { return t.sorted(t.list, newest) }

// due are those that have not ended, as they are taken. Their slices are shared, and not
// to be written.
func (t *table) due() []seen { return t.sorted(t.live, due) }

func (t *table) sorted(some map[string]*seen, order func(a, b *seen) int) []seen {
	t.mu.Lock()
	list := slices.Collect(maps.Values(some))
	t.mu.Unlock()
	slices.SortFunc(list, order)
	copied := make([]seen, len(list))
	for i, r := range list {
		copied[i] = *r
	}
	return copied
}

// count is how many migrations that have not ended are such.
func (t *table) count(such func(*seen) bool) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.live {
		if such(r) {
			n++
		}
	}
	return n
}

// newest is the order in which people see migrations.
func newest(a, b *seen) int {
	return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
}

// due is the order in which migrations are taken.
func due(a, b *seen) int {
	return cmp.Or(cmp.Compare(b.Spec.Schedule.Priority, a.Spec.Schedule.Priority), a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
}

// follow takes over every change of a record, whoever made it.
func (e *Engine) follow(ctx context.Context) {
	e.watch(ctx, e.bus.jobs, jetstream.AllKeys, e.take, func(there map[string]bool) {
		e.table.keepOnly(there)
		e.table.once.Do(func() { close(e.table.complete) })
	})
}

func (e *Engine) take(entry jetstream.KeyValueEntry) {
	defer e.table.reached(int64(entry.Revision()))
	if entry.Operation() != jetstream.KeyValuePut {
		e.table.remove(entry.Key())
		return
	}
	r, err := decode(entry.Value(), entry.Revision())
	if err != nil {
		e.config.Log.Error("a migration cannot be read", "migration", entry.Key(), "err", err)
		return
	}
	e.saw(r)
}

// saw takes over a record that was read or written.
func (e *Engine) saw(r Record) {
	was, newer := e.table.put(r)
	if !newer {
		return
	}
	e.announce(was.Record, r)
	e.ring()
}

// All hands every migration to each, as it was seen last.
func (e *Engine) All(each func(*model.Migration)) {
	for _, r := range e.table.all() {
		each(&r.Migration)
	}
}

// Page is a part of the migrations, and the cursor of what follows; "" at their end.
type Page struct {
	Items []model.Migration
	Next  string
}

// List is the migrations that a filter lets through, newest first, after a cursor.
func (e *Engine) List(filter func(*model.Migration) bool, cursor string, limit int) Page {
	page := Page{Items: []model.Migration{}}
	all := e.table.all()
	from := 0
	if cursor != "" {
		from = slices.IndexFunc(all, func(r seen) bool { return position(r) > cursor })
		if from < 0 {
			return page
		}
	}
	for _, r := range all[from:] {
		m := e.view(r.Record)
		if !filter(&m) {
			continue
		}
		if len(page.Items) == limit {
			page.Next = page.last()
			return page
		}
		page.Items = append(page.Items, m)
	}
	return page
}

func (p Page) last() string {
	return position(seen{Record: Record{Migration: p.Items[len(p.Items)-1]}})
}

// position is where a migration stands in the list; it grows along it.
func position(r seen) string {
	return descending(r.Created.UnixNano()) + r.ID
}

// View is a migration as the API shows it.
func (e *Engine) View(ctx context.Context, id string) (model.Migration, error) {
	r, err := e.read(ctx, id)
	if err != nil {
		return model.Migration{}, err
	}
	return e.view(r), nil
}

// view adds what is known only now: what it waits for, and its owner's name.
func (e *Engine) view(r Record) model.Migration {
	m := r.Migration
	if r.State == model.StateQueued {
		m.Why = e.waits(r)
	}
	if r.State == model.StateRunning {
		m.Appliance = e.nodes.name(r.Owner)
	}
	return m
}
