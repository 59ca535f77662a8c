package transport

import (
	"context"
	"slices"
	"sync"
)

// What is read through one ESXi host at a time, by all migrations of this machine: an
// NFC server has 32 MiB for its buffers, and loses connections when they are full.
//
// Source: Azure Migrate's limits for agentless VMware replication, 8 disks of 4 MiB
// for each host.
const (
	mostDisks = 8
	mostBytes = 32 << 20
)

// hosts are the budgets of all hosts that this process reads through.
var hosts = newBudgets("")

type budgets struct {
	apart string // what sets tests apart from each other
	mu    sync.Mutex
	hosts map[string]*budget // by the hosts' addresses; those that somebody uses
}

func newBudgets(apart string) *budgets {
	return &budgets{apart: apart, hosts: map[string]*budget{}}
}

// budget is what this process has of one host's. Whoever waits longest is next, also if
// others would fit in before: so a disk that is the ninth gets its turn too.
type budget struct {
	reads  map[any]int // under way, by disk
	bytes  int64
	queue  []*turn
	places places
}

// turn is a read that waits.
type turn struct {
	disk  any
	bytes int64
	begun chan error // nil: it begins
}

// take waits until so many bytes of a disk may be read through a host, and returns
// what ends it. Without a host there is no budget.
func (b *budgets) take(ctx context.Context, host string, disk any, bytes int64) (give func(), err error) {
	if host == "" {
		return func() {}, nil
	}
	t := &turn{disk, min(bytes, mostBytes), make(chan error, 1)}
	b.mu.Lock()
	if b.hosts[host] == nil {
		b.hosts[host] = &budget{reads: map[any]int{}, places: places{host: b.apart + host}}
	}
	b.hosts[host].queue = append(b.hosts[host].queue, t)
	b.next(host)
	b.mu.Unlock()
	select {
	case err := <-t.begun:
		if err != nil {
			return nil, err
		}
		return sync.OnceFunc(func() { b.give(host, t) }), nil
	case <-ctx.Done():
		b.leave(host, t)
		return nil, context.Cause(ctx)
	}
}

// again is next, for a host that may be in use no more.
func (b *budgets) again(host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.hosts[host]; h != nil {
		h.places.alarm = nil
		b.next(host)
	}
}

// next begins what is first in the queue as long as there is room, here and beside other
// processes; the mutex is held.
func (b *budgets) next(host string) {
	h := b.hosts[host]
	if h.places.wanted() { // what was freed is for who waits at the gate
		h.places.keep(h.need(nil))
	}
	for len(h.queue) > 0 && h.begin(h.queue[0], func() { b.again(host) }) {
		h.queue = h.queue[1:]
	}
	if len(h.queue) == 0 {
		h.places.leave()
	}
	h.places.keep(h.need(nil))
	if len(h.queue) == 0 && len(h.reads) == 0 {
		delete(b.hosts, host)
	}
}

// begin begins a read, or ends it with an error, if it need not wait.
func (h *budget) begin(t *turn, again func()) bool {
	need := h.need(t)
	if need > mostDisks {
		h.places.leave() // it waits for our own
		return false
	}
	got, err := h.places.get(need, again)
	if got {
		h.reads[t.disk]++
		h.bytes += t.bytes
	}
	if got || err != nil {
		t.begun <- err
	}
	return got || err != nil
}

// need is how many places of a host are needed for the reads that are under way, and one
// more: a place is for one disk, and has 4 MiB.
func (h *budget) need(t *turn) int {
	disks, bytes := len(h.reads), h.bytes
	if t != nil {
		bytes += t.bytes
		if h.reads[t.disk] == 0 {
			disks++
		}
	}
	return max(disks, int((bytes+placeBytes-1)/placeBytes))
}

// give ends a read.
func (b *budgets) give(host string, t *turn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosts[host]
	h.bytes -= t.bytes
	if h.reads[t.disk]--; h.reads[t.disk] == 0 {
		delete(h.reads, t.disk)
	}
	b.next(host)
}

// leave ends a read that is not wanted any more, whether it waits or has just begun.
func (b *budgets) leave(host string, t *turn) {
	b.mu.Lock()
	i := -1
	if h := b.hosts[host]; h != nil {
		i = slices.Index(h.queue, t)
		if i >= 0 {
			h.queue = slices.Delete(h.queue, i, i+1)
			b.next(host)
		}
	}
	b.mu.Unlock()
	if i < 0 && <-t.begun == nil {
		b.give(host, t)
	}
}
