// Package authtest has what tests of package auth need: what must hold of every
// auth.Store, a store in memory of which it holds, and an audit that remembers.
package authtest

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"hyper2kvm/agent/auth"
)

// Memory is a store that ends with its program. Its zero value is empty.
type Memory struct {
	mu       sync.Mutex
	values   map[string]value
	revision uint64
}

type value struct {
	data     []byte
	revision uint64
}

// never is no key's revision, where 0 would be that of one that is not there.
const never = math.MaxUint64

// Read implements auth.Store.
func (m *Memory) Read(ctx context.Context, key string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	switch {
	case ctx.Err() != nil:
		return nil, 0, context.Cause(ctx)
	case !ok:
		return nil, 0, auth.ErrNotFound
	}
	return slices.Clone(v.data), v.revision, nil
}

// Create implements auth.Store.
func (m *Memory) Create(ctx context.Context, key string, data []byte) error {
	return m.change(ctx, key, 0, auth.ErrExists, func() { m.put(key, data) })
}

// Update implements auth.Store.
func (m *Memory) Update(ctx context.Context, key string, data []byte, revision uint64) error {
	return m.change(ctx, key, cmp.Or(revision, never), auth.ErrChanged, func() { m.put(key, data) })
}

// Delete implements auth.Store.
func (m *Memory) Delete(ctx context.Context, key string, revision uint64) error {
	return m.change(ctx, key, cmp.Or(revision, never), auth.ErrChanged, func() { delete(m.values, key) })
}

// List implements auth.Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	keys := slices.Collect(maps.Keys(m.values))
	return slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) }), nil
}

// change does something if a key stands at a revision.
func (m *Memory) change(ctx context.Context, key string, revision uint64, otherwise error, do func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case m.values[key].revision != revision:
		return otherwise
	}
	m.revision++
	do()
	return nil
}

func (m *Memory) put(key string, data []byte) {
	if m.values == nil {
		m.values = map[string]value{}
	}
	m.values[key] = value{slices.Clone(data), m.revision}
}
