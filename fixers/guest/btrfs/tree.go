package btrfs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

var le = binary.LittleEndian

// disk reads the trees of a file system.
type disk struct {
	r        io.ReaderAt
	size     int64  // bytes
	id       uint64 // of this device among the file system's
	nodeSize int64  // bytes
	crc      bool   // blocks have the usual checksum
	chunks   []chunk
	nodes    map[uint64][]byte // read so far
	left     int               // how many blocks may still be looked at
	damage   error             // the first that could not be read
}

// Bounds of what is read.
const (
	maxBlocks = 1 << 15 // that are looked at
	maxKept   = 1 << 10 // blocks, at most 64 KiB each
	maxChunks = 1 << 16 // of metadata: as much as a hundred TiB take
	maxLevel  = 7
)

// chunk is a run of the file system's own addresses, and where its copies begin on
// this device.
type chunk struct {
	start, size uint64
	copies      []uint64
}

// key is what an item is about.
type key struct {
	object uint64
	kind   byte
	offset uint64
}

const keySize = 17

func keyAt(b []byte) key { return key{le.Uint64(b), b[8], le.Uint64(b[9:])} }

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.object, o.object), cmp.Compare(k.kind, o.kind), cmp.Compare(k.offset, o.offset))
}

// pointer is where a block of a tree is, by the file system's own addresses.
type pointer struct {
	at    uint64
	level byte
}

// The superblock, of which the first copy counts.
//
// Source: struct btrfs_super_block.
const (
	superAt    = 64 << 10
	superSize  = 4096
	sysChunks  = 0x32b
	maxSysSize = 2048
)

// open reads the superblock and the chunks, and tells where the tree of roots is.
func open(r io.ReaderAt, size int64) (*disk, pointer, error) {
	super := make([]byte, superSize)
	if size < superAt+superSize {
		return nil, pointer{}, fmt.Errorf("%w: the device is too small", ErrUnread)
	}
	if _, err := r.ReadAt(super, superAt); err != nil {
		return nil, pointer{}, err
	}
	d := &disk{r: r, size: size, id: le.Uint64(super[0xc9:]), nodeSize: int64(le.Uint32(super[0x94:])),
		crc: le.Uint16(super[0xc4:]) == 0, nodes: map[uint64][]byte{}, left: maxBlocks}
	if string(super[0x40:0x48]) != "_BHRfS_M" || d.nodeSize < 4096 || d.nodeSize > 64<<10 {
		return nil, pointer{}, fmt.Errorf("%w: no superblock", ErrUnread)
	}
	if err := d.bootstrap(super[sysChunks:], int(min(le.Uint32(super[0xa0:]), maxSysSize))); err != nil {
		return nil, pointer{}, err
	}
	if err := d.readChunks(pointer{le.Uint64(super[0x58:]), super[0xc7]}); err != nil {
		return nil, pointer{}, err
	}
	return d, pointer{le.Uint64(super[0x50:]), super[0xc6]}, nil
}

// bootstrap takes from the superblock the chunks that the tree of chunks lies in.
func (d *disk) bootstrap(list []byte, size int) error {
	for list = list[:size]; len(list) > keySize+chunkHead; {
		k := keyAt(list)
		list = list[keySize:]
		n := chunkHead + stripeSize*int(le.Uint16(list[stripes:]))
		if n > len(list) {
			return fmt.Errorf("%w: the first chunks are cut short", ErrUnread)
		}
		d.addChunk(k.offset, list[:n])
		list = list[n:]
	}
	return nil
}

// readChunks reads all chunks that hold metadata.
func (d *disk) readChunks(at pointer) error {
	const chunkItem = 228
	first := len(d.chunks)
	err := d.walk(at, key{}, func(k key, data []byte) bool {
		if k.kind == chunkItem && len(data) >= chunkHead && len(data) >= chunkHead+stripeSize*int(le.Uint16(data[stripes:])) {
			d.addChunk(k.offset, data)
		}
		return len(d.chunks) < maxChunks
	})
	d.chunks = d.chunks[first:] // the tree has those of the superblock too
	slices.SortFunc(d.chunks, func(a, b chunk) int { return cmp.Compare(a.start, b.start) })
	return err
}

// A chunk's item, of which the stripes are the end.
//
// Source: struct btrfs_chunk, BTRFS_BLOCK_GROUP_TYPE_MASK and _PROFILE_MASK.
const (
	chunkHead, stripes, stripeSize = 48, 44, 32

	holdsMetadata = 1<<1 | 1<<2               // SYSTEM, METADATA
	spread        = 1<<3 | 1<<6 | 1<<7 | 1<<8 // RAID0, RAID10, RAID5, RAID6
)

// addChunk takes a chunk of which this device has whole copies.
func (d *disk) addChunk(start uint64, item []byte) {
	kind, n := le.Uint64(item[24:]), int(le.Uint16(item[stripes:]))
	if kind&holdsMetadata == 0 || kind&spread != 0 && n > 1 {
		return
	}
	c := chunk{start: start, size: le.Uint64(item)}
	for i := range n {
		if s := item[chunkHead+i*stripeSize:]; le.Uint64(s) == d.id {
			c.copies = append(c.copies, le.Uint64(s[8:]))
		}
	}
	d.chunks = append(d.chunks, c)
}

// places are where on this device a block's copies are.
func (d *disk) places(at uint64) (found []int64) {
	size := uint64(d.nodeSize)
	for _, c := range d.chunks {
		if at < c.start || at-c.start >= c.size || c.size-(at-c.start) < size {
			continue
		}
		for _, begin := range c.copies {
			place := begin + (at - c.start)
			if place >= begin && place <= uint64(d.size)-size {
				found = append(found, int64(place))
			}
		}
	}
	return found
}

// A block's header, and what follows it.
//
// Source: struct btrfs_header, btrfs_item, btrfs_key_ptr.
const (
	headSize   = 101
	checksum   = 32
	ownAddress = 48
	items      = 96
	levelAt    = 100
	itemSize   = keySize + 8
	pointSize  = keySize + 16
)

// block reads one block of a tree, from whichever copy is whole.
func (d *disk) block(p pointer) ([]byte, error) {
	if d.left--; d.left < 0 {
		return nil, fmt.Errorf("%w: there is too much to read", ErrUnread)
	}
	b, ok := d.nodes[p.at]
	for _, place := range d.places(p.at) {
		if ok {
			break
		}
		b = make([]byte, d.nodeSize)
		if _, err := d.r.ReadAt(b, place); err != nil {
			return nil, err
		}
		ok = d.whole(b, p.at)
	}
	if !ok || b[levelAt] != p.level {
		return nil, fmt.Errorf("%w: a block of its trees is damaged, or on another device", ErrUnread)
	}
	if len(d.nodes) == maxKept {
		clear(d.nodes)
	}
	d.nodes[p.at] = b
	return b, nil
}

// whole tells whether a block is the one that belongs at an address.
func (d *disk) whole(b []byte, at uint64) bool {
	each := pointSize
	if b[levelAt] == 0 {
		each = itemSize
	}
	n := int64(le.Uint32(b[items:]))
	if le.Uint64(b[ownAddress:]) != at || b[levelAt] > maxLevel || headSize+n*int64(each) > d.nodeSize {
		return false
	}
	sum := le.AppendUint32(nil, crc32.Checksum(b[checksum:], crc32.MakeTable(crc32.Castagnoli)))
	return !d.crc || bytes.HasPrefix(b, sum)
}

// walk shows the items of a tree from a key on, in order, as long as visit wants
// more.
func (d *disk) walk(p pointer, from key, visit func(k key, data []byte) (more bool)) error {
	_, err := d.descend(p, from, visit)
	return err
}

func (d *disk) descend(p pointer, from key, visit func(key, []byte) bool) (more bool, err error) {
	b, err := d.block(p)
	if err != nil {
		return false, err
	}
	n := int(le.Uint32(b[items:]))
	if p.level == 0 {
		return leaf(b, n, from, visit), nil
	}
	for i := range n {
		at := b[headSize+i*pointSize:]
		if i+1 < n && keyAt(at[pointSize:]).compare(from) <= 0 {
			continue // all of it comes before
		}
		more, err = d.descend(pointer{le.Uint64(at[keySize:]), p.level - 1}, from, visit)
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

func leaf(b []byte, n int, from key, visit func(key, []byte) bool) (more bool) {
	for i := range n {
		item := b[headSize+i*itemSize:]
		k, start := keyAt(item), int64(le.Uint32(item[keySize:]))+headSize
		end := start + int64(le.Uint32(item[keySize+4:]))
		if k.compare(from) < 0 || end > int64(len(b)) {
			continue
		}
		if !visit(k, b[start:end]) {
			return false
		}
	}
	return true
}

// nameOf is what a folder is called, and in which it is.
//
// Source: struct btrfs_inode_ref; a folder has one.
func (d *disk) nameOf(tree pointer, inode uint64) (parent uint64, name string, err error) {
	const nameLength, head = 8, 10
	err = d.walk(tree, key{inode, inodeRef, 0}, func(k key, data []byte) bool {
		if k.object == inode && k.kind == inodeRef && len(data) >= head && len(data)-head >= int(le.Uint16(data[nameLength:])) {
			parent, name = k.offset, string(data[head:head+int(le.Uint16(data[nameLength:]))])
		}
		return false
	})
	if err == nil && !possible(name) {
		err = fmt.Errorf("%w: folder %d has no name", ErrUnread, inode)
	}
	return parent, name, err
}
