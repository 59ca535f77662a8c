package fleet

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"sync"
	"time"
)

// Gone is an appliance that was removed.
type Gone struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// removed are the keys that are not let in any more. It is asked with each handshake,
// from memory; a copy lies in the state folder, for the time before the store answers.
type removed struct {
	path string

	mu   sync.Mutex
	list map[string]Gone // by key
}

func openRemoved(folder string) (*removed, error) {
	r := &removed{path: filepath.Join(folder, "removed.json"), list: map[string]Gone{}}
	if err := readKept(r.path, &r.list); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return r, nil
}

func (r *removed) has(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.list[key]
	return ok
}

// set takes over what the store holds.
func (r *removed) set(list map[string]Gone) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if maps.EqualFunc(list, r.list, func(a, b Gone) bool { return a.ID == b.ID && a.At.Equal(b.At) }) {
		return nil
	}
	r.list = maps.Clone(list)
	return writeKept(r.path, list)
}
