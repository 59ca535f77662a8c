package transport

import (
	"context"
	"slices"
	"sync"
)

// What is read through one ESXi host at a time, by all migrations of this process: an
// NFC server has 32 MiB for its buffers, and loses connections when they are full.
//
// Source: Azure Migrate's limits for agentless VMware replication, 8 disks of 4 MiB
// for each host.
const (
	mostDisks = 8
	mostBytes = 32 << 20
)

// hosts are the budgets of all hosts that this process reads through.
var hosts = budgets{hosts: map[string]*budget{}}

type budgets struct {
	mu    sync.Mutex
	hosts map[string]*budget // by the hosts' addresses; those that somebody uses
}

// budget is one host's. Whoever waits longest is next, also if others would fit in
// before: so a disk that is the ninth gets its turn too.
type budget struct {
	reads map[any]int // under way, by disk
	bytes int64
	queue []*turn
}

// turn is a read that waits.
type turn struct {
	disk  any
	bytes int64
	begun chan struct{}
}

// take waits until so many bytes of a disk may be read through a host, and returns
// what ends it. Without a host there is no budget.
func (b *budgets) take(ctx context.Context, host string, disk any, bytes int64) (give func(), err error) {
	if host == "" {
		return func() {}, nil
	}
	t := &turn{disk, min(bytes, mostBytes), make(chan struct{})}
	b.mu.Lock()
	if b.hosts[host] == nil {
		b.hosts[host] = &budget{reads: map[any]int{}}
	}
	b.hosts[host].queue = append(b.hosts[host].queue, t)
	b.next(host)
	b.mu.Unlock()
	select {
	case <-t.begun:
		return sync.OnceFunc(func() { b.give(host, t) }), nil
	case <-ctx.Done():
		b.leave(host, t)
		return nil, context.Cause(ctx)
	}
}

// next begins what is first in the queue as long as there is room; the mutex is held.
func (b *budgets) next(host string) {
	h := b.hosts[host]
	for len(h.queue) > 0 && h.room(h.queue[0]) {
		t := h.queue[0]
		h.queue = h.queue[1:]
		h.reads[t.disk]++
		h.bytes += t.bytes
		close(t.begun)
	}
	if len(h.queue) == 0 && len(h.reads) == 0 {
		delete(b.hosts, host)
	}
}

func (h *budget) room(t *turn) bool {
	return h.bytes+t.bytes <= mostBytes && (h.reads[t.disk] > 0 || len(h.reads) < mostDisks)
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
	if i < 0 {
		b.give(host, t)
	}
}
