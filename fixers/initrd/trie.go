package initrd

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// Header and node flags of kmod's binary indexes.
const (
	trieMagic   = 0xB007F457
	trieVersion = 2<<16 | 1
	triePrefix  = 0x80000000
	trieValues  = 0x40000000
	trieChilds  = 0x20000000
)

// trieEntry is a key with one of its values. A lower priority comes first.
type trieEntry struct {
	key, value string
	priority   uint32
}

// encodeTrie writes a binary index as depmod does: a trie whose nodes hold the
// characters that all keys below share, an array of children and the values.
// kmod's modprobe reads these only; without modules.dep.bin it finds no module,
// whatever modules.dep says (libkmod.c, lookup_file). Keys and values that are
// not printable ASCII are left out, as no index may have them.
//
// Source: kmod, libkmod-index.c, "Disk format".
func encodeTrie(entries []trieEntry) []byte {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e trieEntry) bool {
		return e.key == "" || len(e.key) > pathMax || !ascii(e.key) || !ascii(e.value)
	})
	slices.SortStableFunc(entries, func(a, b trieEntry) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.priority, b.priority), cmp.Compare(a.value, b.value))
	})
	entries = slices.CompactFunc(entries, func(a, b trieEntry) bool { return a.key == b.key && a.value == b.value })
	t := &trieWriter{}
	t.u32(trieMagic)
	t.u32(trieVersion)
	t.u32(0)
	root := t.node(entries, 0) // before t.out is named: it grows
	binary.BigEndian.PutUint32(t.out[8:], root)
	return t.out
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

type trieWriter struct{ out []byte }

func (t *trieWriter) u32(v uint32) { t.out = binary.BigEndian.AppendUint32(t.out, v) }

func (t *trieWriter) text(s string) { t.out = append(append(t.out, s...), 0) }

// node writes the entries, sorted and equal in their first depth characters, and
// returns the node's offset with its flags.
func (t *trieWriter) node(entries []trieEntry, depth int) uint32 {
	at := uint32(len(t.out))
	if prefix := shared(entries, depth); prefix != "" {
		at |= triePrefix
		t.text(prefix)
		depth += len(prefix)
	}
	own := 0
	for own < len(entries) && len(entries[own].key) == depth {
		own++
	}
	table, first := 0, byte(0)
	if below := entries[own:]; len(below) > 0 {
		at |= trieChilds
		first = below[0].key[depth]
		last := below[len(below)-1].key[depth]
		t.out = append(t.out, first, last)
		table = len(t.out)
		t.out = append(t.out, make([]byte, 4*(int(last-first)+1))...)
	}
	if own > 0 {
		at |= trieValues
		t.values(entries[:own])
	}
	for below := entries[own:]; len(below) > 0; {
		c := below[0].key[depth]
		n, _ := slices.BinarySearchFunc(below, c+1, func(e trieEntry, c byte) int { return cmp.Compare(e.key[depth], c) })
		child := t.node(below[:n], depth+1)
		binary.BigEndian.PutUint32(t.out[table+4*int(c-first):], child)
		below = below[n:]
	}
	return at
}

func (t *trieWriter) values(entries []trieEntry) {
	t.u32(uint32(len(entries)))
	for _, e := range entries {
		t.u32(e.priority)
		t.text(e.value)
	}
}

// shared is what sorted keys have in common behind their first depth characters.
func shared(entries []trieEntry, depth int) string {
	if len(entries) == 0 {
		return ""
	}
	a, b := entries[0].key[depth:], entries[len(entries)-1].key[depth:]
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
