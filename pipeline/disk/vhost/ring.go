package vhost

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"
)

// The ring and what goes with it, in memory of their own.
//
// Source: VIRTIO 1.2, 2.7 "Split Virtqueues", 5.2.6 "Device Operation".
const (
	entries    = 128
	perRequest = 3                    // descriptors: head, data, status
	requests   = entries / perRequest // that are under way at most

	availAt  = entries * 16
	usedAt   = 4096
	extrasAt = 8192 // head and status of each request
	extra    = 32
	ringSize = extrasAt + requests*extra + (4096 - requests*extra%4096)

	headSize = 16
	noStatus = 0xff

	flagNext  = 1
	flagWrite = 2 // the device writes to it

	typeIn  = 0
	typeOut = 1
)

// Where memory lies for the device.
const (
	ringBase = 0
	dataBase = 1 << 32
)

type ring struct {
	memory *Memory
	avail  uint16 // requests that were made so far
	seen   uint16 // and that were answered
}

func newRing() (*ring, error) {
	m, err := NewMemory(ringSize)
	if err != nil {
		return nil, err
	}
	return &ring{memory: m}, nil
}

func (r *ring) descriptor(i uint16, at uint64, n uint32, flags, next uint16) {
	d := r.memory.data[int(i)*16:]
	binary.LittleEndian.PutUint64(d, at)
	binary.LittleEndian.PutUint32(d[8:], n)
	binary.LittleEndian.PutUint16(d[12:], flags)
	binary.LittleEndian.PutUint16(d[14:], next)
}

// put offers the device the request of a slot. One goroutine at a time may.
func (r *ring) put(slot int, kind uint32, sector, at uint64, n uint32) {
	head := extrasAt + slot*extra
	b := r.memory.data[head:]
	binary.LittleEndian.PutUint32(b, kind)
	binary.LittleEndian.PutUint32(b[4:], 0)
	binary.LittleEndian.PutUint64(b[8:], sector)
	b[headSize] = noStatus
	first, data := uint16(slot*perRequest), uint16(flagNext)
	if kind == typeIn {
		data |= flagWrite
	}
	r.descriptor(first, ringBase+uint64(head), headSize, flagNext, first+1)
	r.descriptor(first+1, dataBase+at, n, data, first+2)
	r.descriptor(first+2, ringBase+uint64(head+headSize), 1, flagWrite, 0)
	binary.LittleEndian.PutUint16(r.memory.data[availAt+4+int(r.avail%entries)*2:], first)
	r.avail++
	atomic.StoreUint32(r.word(availAt), uint32(r.avail)<<16) // flags and index; what is above comes first
}

// word is the 32 bits at a place of the ring: a ring's flags and its index.
func (r *ring) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory.data[at])) }

var errRing = errors.New("the device answers what it was not asked")

// take is the slot of a request that was answered; false if there is none.
func (r *ring) take() (slot int, ok bool, err error) {
	if uint16(atomic.LoadUint32(r.word(usedAt))>>16) == r.seen {
		return 0, false, nil
	}
	id := binary.LittleEndian.Uint32(r.memory.data[usedAt+4+int(r.seen%entries)*8:])
	r.seen++
	if id%perRequest != 0 || id/perRequest >= requests {
		return 0, false, errRing
	}
	return int(id / perRequest), true, nil
}

// status is what the device says of the request of a slot.
func (r *ring) status(slot int) byte { return r.memory.data[extrasAt+slot*extra+headSize] }

// addresses are where the device finds the ring's parts.
func (r *ring) addresses() []byte {
	return append(pair(0, 0), numbers(ringBase, ringBase+usedAt, ringBase+availAt, 0)...)
}

// region is how a memory is told of: from where on the device finds it.
func region(base uint64, m *Memory) []byte { return numbers(base, uint64(len(m.data)), base, 0) }
