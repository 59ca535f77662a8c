package initrd

import (
	"slices"
	"sync"

	"github.com/zeebo/blake3"
)

// recent are the initrds that were parsed last: INSPECT, PLAN and what verifies FIX
// each read the guest's files anew and mostly find the same bytes, of which
// decompression is nearly all the work. Bytes are known by a cryptographic digest, so
// what changed in between, and a forged one, is parsed.
type recent struct {
	mu   sync.Mutex
	list []remembered // the last one used is the last
}

type remembered struct {
	of     key
	initrd *Initrd
}

// key is what the outcome of Parse depends on.
type key struct {
	digest [32]byte
	limits Limits
}

// What is remembered takes at most so much memory in all, in bytes.
const (
	mostRemembered = 32 << 20
	entrySize      = 256 // of an entry, about: a node and its name
)

var latest recent

func keyOf(data []byte, limits Limits) key { return key{blake3.Sum256(data), limits} }

// find is the initrd of a key; nil if it is not known.
func (r *recent) find(k key) *Initrd {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.list, func(m remembered) bool { return m.of == k })
	if i < 0 {
		return nil
	}
	found := r.list[i]
	r.list = append(slices.Delete(r.list, i, i+1), found)
	return found.initrd
}

// begin is an unpacker that is behind the longest initrd that is known and that data
// begin with, such as one that has got a supplement, or before data.
func (r *recent) begin(data []byte, limits Limits) *unpacker {
	r.mu.Lock()
	defer r.mu.Unlock()
	var known *Initrd
	for _, m := range r.list {
		i := m.initrd
		if i.end.closed && i.Size < int64(len(data)) && (known == nil || i.Size > known.Size) && m.of == keyOf(data[:i.Size], limits) {
			known = i
		}
	}
	if known == nil {
		return newUnpacker(limits)
	}
	return known.end.on()
}

// add remembers an initrd, and forgets those that were not used for longest.
func (r *recent) add(k key, i *Initrd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.memory() > mostRemembered {
		return
	}
	r.list = append(r.list, remembered{k, i})
	for r.memory() > mostRemembered {
		r.list = slices.Delete(r.list, 0, 1)
	}
}

func (r *recent) memory() (all int64) {
	for _, m := range r.list {
		all += m.initrd.memory()
	}
	return all
}

// memory is about what an initrd takes, in bytes.
func (i *Initrd) memory() int64 {
	return i.end.limits.Kept - i.end.tree.room + entrySize*int64(i.end.entries)
}
