package engine

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
)

// node is what an appliance tells of itself with each heartbeat.
type node struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Storages []string  `json:"storages"`
	Servers  []string  `json:"servers,omitempty"` // of vSphere
	Disks    []string  `json:"disks,omitempty"`   // attached, and chosen: see Attach
	Capacity int       `json:"capacity"`
	Running  []string  `json:"running"`
	Sent     time.Time `json:"sent"` // by its own clock, for people
}

// nodes are the appliances, and when each was heard of, by the clock of this one:
// nobody's clock is compared with another's.
type nodes struct {
	mu       sync.Mutex
	list     map[string]node
	heard    map[string]time.Time
	at       map[string]uint64 // revisions of the heartbeats
	once     sync.Once
	complete chan struct{}
}

func (n *nodes) init() {
	n.list, n.heard, n.at, n.complete = map[string]node{}, map[string]time.Time{}, map[string]uint64{}, make(chan struct{})
}

// put takes a heartbeat. One that was heard before is none.
func (n *nodes) put(id string, revision uint64, told node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if revision > n.at[id] {
		n.list[id], n.heard[id], n.at[id] = told, time.Now(), revision
	}
}

func (n *nodes) remove(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.list, id)
	delete(n.heard, id)
}

// silent tells whether an appliance was not heard of for some time, which begins when
// this one starts to listen.
func (n *nodes) silent(id string, limit time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	heard, ok := n.heard[id]
	return !ok || time.Since(heard) > limit
}

// name is an appliance's for people; its ID if it was never heard of.
func (n *nodes) name(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if told, ok := n.list[id]; ok {
		return told.Name
	}
	return id
}

// reached tells whether an appliance that is heard of reaches all that is used.
func (n *nodes) reached(uses []string, limit time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, told := range n.list {
		if time.Since(n.heard[id]) <= limit && within(uses, offers(told.Storages, told.Servers, told.Disks)) {
			return true
		}
	}
	return false
}

func within(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// listen takes over every heartbeat.
func (e *Engine) listen(ctx context.Context) {
	e.watch(ctx, e.bus.nodes, jetstream.AllKeys, e.heard, func(map[string]bool) { e.nodes.once.Do(func() { close(e.nodes.complete) }) })
}

func (e *Engine) heard(entry jetstream.KeyValueEntry) {
	if entry.Operation() != jetstream.KeyValuePut {
		e.nodes.remove(entry.Key())
		return
	}
	var told node
	if err := json.Unmarshal(entry.Value(), &told); err != nil {
		e.config.Log.Error("an appliance's heartbeat cannot be read", "appliance", entry.Key(), "err", err)
		return
	}
	e.nodes.put(entry.Key(), entry.Revision(), told)
}

// beats is how many heartbeats a lease holds.
const beats = 4

// beat tells that this appliance is there, until ctx ends. One whose heartbeats do not
// arrive ends its work before another may take it over.
func (e *Engine) beat(ctx context.Context) {
	tick := time.NewTicker(e.config.Lease / beats)
	defer tick.Stop()
	for {
		sent := time.Now()
		if err := e.heartbeat(ctx, sent); err == nil {
			e.mu.Lock()
			e.beaten = sent
			e.mu.Unlock()
		} else if ctx.Err() == nil {
			e.config.Log.Warn("a heartbeat did not arrive", "err", err)
		}
		if time.Now().After(e.leased()) {
			e.stopAll(ErrLease)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.ring()
		}
	}
}

func (e *Engine) heartbeat(ctx context.Context, now time.Time) error {
	more := e.attachedNow()
	text, err := json.Marshal(node{Name: e.config.Name, Version: e.config.Version, Storages: more.storages, Servers: e.config.Servers, Disks: more.disks, Capacity: e.config.Capacity, Running: e.Running(), Sent: now.UTC()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, e.config.Lease/beats)
	defer cancel()
	_, err = e.bus.nodes.Put(ctx, e.id, text)
	return err
}

// leased is until when this appliance may work.
func (e *Engine) leased() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.beaten.Add(e.config.Lease)
}

// silence is how long an appliance must be silent until its work is taken over: its
// lease is over then, by any clock that does not run a third too fast or too slow.
func (e *Engine) silence() time.Duration { return e.config.Lease + e.config.Lease/2 }

// Running are the migrations that run here.
func (e *Engine) Running() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []string{}
	for id := range e.running {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// Appliances are all that were heard of.
func (e *Engine) Appliances() []model.Appliance {
	e.nodes.mu.Lock()
	defer e.nodes.mu.Unlock()
	list := []model.Appliance{}
	for id, n := range e.nodes.list {
		list = append(list, model.Appliance{ID: id, Name: n.Name, Version: n.Version, Self: id == e.id, Heard: n.Sent, Alive: time.Since(e.nodes.heard[id]) <= e.config.Lease,
			Storages: n.Storages, Servers: n.Servers, Running: n.Running, Capacity: n.Capacity})
	}
	slices.SortFunc(list, func(a, b model.Appliance) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Storages are the names of those that some appliance reaches, or this one.
func (e *Engine) Storages() []string {
	return e.names(e.attachedNow().storages, func(n node) []string { return n.Storages })
}

// Servers are the names of vSphere's that some appliance has in its settings, or this one.
func (e *Engine) Servers() []string {
	return e.names(e.config.Servers, func(n node) []string { return n.Servers })
}

func (e *Engine) names(ours []string, theirs func(node) []string) []string {
	e.nodes.mu.Lock()
	defer e.nodes.mu.Unlock()
	names := slices.Clone(ours)
	for id, n := range e.nodes.list {
		if id != e.id { // whose last heartbeat may be older than what it reaches now
			names = append(names, theirs(n)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
