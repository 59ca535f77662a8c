package storage

import (
	"os"
	"slices"
	"sync"
)

// Set is the storages of the settings, and those that come and go. It may be used by
// many at once.
type Set struct {
	fixed List

	mu   sync.Mutex
	more List
}

// NewSet is a Set with what is always there.
func NewSet(fixed List) *Set { return &Set{fixed: fixed} }

// Change says which storages there are besides.
func (s *Set) Change(more List) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more = more
}

// Now implements Reached.
func (s *Set) Now() List {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.fixed, s.more)
}

// Locate is List's, of what there is now.
func (s *Set) Locate(key string) (folder *os.Root, base string, err error) {
	return s.Now().Locate(key)
}
