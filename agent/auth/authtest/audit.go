package authtest

import (
	"context"
	"slices"
	"sync"

	"hyper2kvm/agent/auth"
)

// Audit remembers entries.
type Audit struct {
	mu      sync.Mutex
	entries []auth.Entry
}

// Record implements auth.Audit.
func (a *Audit) Record(_ context.Context, e auth.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = append(a.entries, e)
}

// Entries are those so far.
func (a *Audit) Entries() []auth.Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.entries)
}
