package disk

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

// Writers of VMware's formats that qemu-img reads and does not write, from what
// their documentation says. Grains are given by their number.

// cowd is an ESX sparse extent with grains of one sector.
func cowd(capacity int64, grains map[int64][]byte) []byte {
	const entries = 4096
	tables := pieces(capacity, entries)
	b := newFile(4 + pieces(tables*4, sectorSize))
	copy(b.data, "COWD")
	for at, v := range map[int]int64{4: 1, 8: 3, 12: capacity, 16: 1, 20: 4, 24: tables} {
		b.put32(int64(at), v)
	}
	for i := range tables {
		if !inTable(grains, i, entries) {
			continue
		}
		table := b.add(make([]byte, entries*4))
		b.put32(4*sectorSize+4*i, table)
		for _, g := range slices.Sorted(maps.Keys(grains)) {
			if g/entries == i {
				b.put32(table*sectorSize+g%entries*4, b.add(grains[g]))
			}
		}
	}
	return b.data
}

// sesparse is a space-efficient sparse extent with grains of 4 KiB, of which
// some are zeros whatever the parent holds.
func sesparse(capacity int64, grains map[int64][]byte, zeros ...int64) []byte {
	const entries, directory, tableSectors = 4096, 8, 64
	tables := pieces(capacity, entries*8)
	b := newFile(directory + 1)
	area := directory + 1
	b.add(make([]byte, tables*tableSectors*sectorSize))
	grainArea := int64(len(b.data)) / sectorSize
	for i, v := range []uint64{0xcafebabe, 0x0000000200000001, uint64(capacity), 8, tableSectors} {
		binary.LittleEndian.PutUint64(b.data[8*i:], v)
	}
	for at, v := range map[int]int64{80: 1, 88: 1, 128: directory, 136: 1, 144: int64(area), 152: tables * tableSectors, 192: grainArea} {
		binary.LittleEndian.PutUint64(b.data[at:], uint64(v))
	}
	binary.LittleEndian.PutUint64(b.data[sectorSize:], 0xcafecafe)
	for i := range tables {
		binary.LittleEndian.PutUint64(b.data[directory*sectorSize+8*i:], 0x1000000000000000|uint64(i))
	}
	entry := func(g int64) []byte { return b.data[int64(area)*sectorSize+8*g:] }
	for _, g := range slices.Sorted(maps.Keys(grains)) {
		n := uint64(b.add(grains[g])-grainArea) / 8
		binary.LittleEndian.PutUint64(entry(g), 0x3000000000000000|n&0xfff<<48|n>>12)
	}
	for _, g := range zeros {
		binary.LittleEndian.PutUint64(entry(g), 0x2000000000000000)
	}
	return b.data
}

// stream is a disk as VMware exports it: its directory stands at the end, and a
// footer tells where.
func stream(t testing.TB, capacity int64, grains map[int64][]byte) []byte {
	t.Helper()
	const entries, grain = 512, 128
	b := newFile(1)
	b.add(bytes.Join([][]byte{[]byte("# Disk DescriptorFile\nversion=1\nCID=0badc0de\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n"),
		fmt.Appendf(nil, "RDONLY %d SPARSE \"call-me-stream.vmdk\"\n", capacity), make([]byte, 3000)}, nil))
	directory := make([]byte, pieces(capacity, entries*grain)*4)
	for i := range int64(len(directory) / 4) {
		table := make([]byte, entries*4)
		for _, g := range slices.Sorted(maps.Keys(grains)) {
			if g/entries != i {
				continue
			}
			var z bytes.Buffer
			w := zlib.NewWriter(&z)
			if _, err := w.Write(grains[g]); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			head := make([]byte, 12)
			binary.LittleEndian.PutUint64(head, uint64(g*grain))
			binary.LittleEndian.PutUint32(head[8:], uint32(z.Len()))
			binary.LittleEndian.PutUint32(table[g%entries*4:], uint32(b.add(append(head, z.Bytes()...))))
		}
		b.mark(1, 4)
		binary.LittleEndian.PutUint32(directory[4*i:], uint32(b.add(table)))
	}
	b.mark(2, 1)
	at := b.add(directory)
	header := func(directory uint64) []byte {
		h := make([]byte, sectorSize)
		copy(h, "KDMV")
		binary.LittleEndian.PutUint32(h[4:], 3)
		binary.LittleEndian.PutUint32(h[8:], 1|1<<16|1<<17)
		for offset, v := range map[int]uint64{12: uint64(capacity), 20: grain, 28: 1, 36: 7, 56: directory, 64: 8} {
			binary.LittleEndian.PutUint64(h[offset:], v)
		}
		binary.LittleEndian.PutUint32(h[44:], entries)
		copy(h[73:], "\n \r\n\x01")
		return h
	}
	copy(b.data, header(atEnd))
	b.mark(3, 1)
	b.add(header(uint64(at)))
	b.mark(0, 0)
	return b.data
}

// file is a file of whole sectors that grows.
type file struct{ data []byte }

func newFile(sectors int64) *file { return &file{make([]byte, sectors*sectorSize)} }

// add appends bytes, padded to whole sectors, and returns their first sector.
func (f *file) add(data []byte) int64 {
	at := int64(len(f.data)) / sectorSize
	f.data = append(f.data, data...)
	f.data = append(f.data, make([]byte, pieces(int64(len(data)), sectorSize)*sectorSize-int64(len(data)))...)
	return at
}

func (f *file) put32(at, v int64) { binary.LittleEndian.PutUint32(f.data[at:], uint32(v)) }

// mark appends a stream's metadata marker for what follows.
func (f *file) mark(kind, sectors uint32) {
	m := make([]byte, 16)
	binary.LittleEndian.PutUint64(m, uint64(sectors))
	binary.LittleEndian.PutUint32(m[12:], kind)
	f.add(m)
}

func inTable(grains map[int64][]byte, table, entries int64) bool {
	for g := range grains {
		if g/entries == table {
			return true
		}
	}
	return false
}

// grainsOf are the grains of raw data that hold more than zeros.
func grainsOf(raw []byte, size int) map[int64][]byte {
	grains := map[int64][]byte{}
	for i := 0; i*size < len(raw); i++ {
		if g := raw[i*size : min(len(raw), (i+1)*size)]; len(bytes.Trim(g, "\x00")) > 0 {
			grains[int64(i)] = g
		}
	}
	return grains
}

// described writes a descriptor with these extents and returns its path.
func described(t *testing.T, folder, name string, cid uint32, parent *Chain, extents string) string {
	t.Helper()
	hint, parentCID := "", uint32(noParent)
	if parent != nil {
		hint, parentCID = fmt.Sprintf("parentFileNameHint=%q\n", filepath.Base(parent.Path)), parent.links[0].CID
	}
	path := filepath.Join(folder, name)
	writeFile(t, path, fmt.Sprintf("# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08x\nparentCID=%08x\nisNativeSnapshot=\"no\"\ncreateType=\"vmfs\"\n%s\n# Extent description\n%s\n# The Disk Data Base\n#DDB\n\nddb.longContentID = \"0123456789abcdef0123456789abcdef\"\n",
		cid, parentCID, hint, extents))
	return path
}
