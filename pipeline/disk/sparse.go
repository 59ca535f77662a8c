package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// sparse is the header of an extent whose grains lie in any order, found
// through a directory of tables. All places and sizes are in sectors, but for
// entrySize.
type sparse struct {
	kind       Kind  // Sparse, VMFSSparse, SESparse
	capacity   int64 // what the extent holds
	grain      int64 // size of a grain
	directory  int64 // place of the directory
	tables     int64 // how many entries the directory has
	entries    int64 // how many entries a table has
	entrySize  int64 // bytes of an entry, of both
	text, room int64 // place and size of the descriptor inside; zero for none
	nested     bool  // Sparse: it holds a descriptor and no data
	compressed bool  // Sparse: grains begin with a marker and have sizes of their own
	zeroes     bool  // Sparse: the entry 1 stands for a grain of zeros
	dirty      bool  // Sparse: who wrote it did not close it
	tableArea  int64 // SESparse: where the tables begin
	grainArea  int64 // SESparse: where the grains begin
}

// Bounds of a header, those of QEMU.
//
// Source: QEMU, block/vmdk.c, vmdk_add_extent, vmdk_open_vmdk4.
const (
	maxGrain   = 1 << 21 // sectors: 1 GiB
	maxDeflate = 1 << 11 // the same of compressed grains, which are read whole; VMware's have 128
	maxTables  = 32 << 20
	maxEntries = 512
)

// readSparse reads the header of a sparse extent of size bytes; nil if it is
// none.
//
// Source: VMware Virtual Disk Format 5.0, "Hosted Sparse Extents", "ESX Server
// Sparse Extents", "Stream-Optimized Compressed Sparse Extents"; libvmdk's
// documentation; QEMU, block/vmdk.c, for seSparse.
func readSparse(f io.ReaderAt, size int64) (*sparse, error) {
	head := make([]byte, sectorSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	head = head[:n]
	for magic, read := range headers {
		if !bytes.HasPrefix(head, []byte(magic)) {
			continue
		}
		if n < sectorSize {
			return nil, fmt.Errorf("%w: %d bytes are too few for a VMDK", ErrTruncated, n)
		}
		s, err := read(f, size, head)
		if err != nil {
			return nil, err
		}
		return s, s.plausible()
	}
	return nil, nil
}

// The first bytes of sparse extents.
const (
	magicKDMV     = "KDMV"
	magicCOWD     = "COWD"
	magicSESparse = "\xbe\xba\xfe\xca\x00\x00\x00\x00"
)

var headers = map[string]func(f io.ReaderAt, size int64, head []byte) (*sparse, error){
	magicKDMV: readKDMV, magicCOWD: readCOWD, magicSESparse: readSESparse,
}

func (s *sparse) plausible() error {
	switch {
	case s.nested:
		return nil
	case s.capacity < 1 || s.capacity > maxSectors:
		return fmt.Errorf("%w: its header claims %d sectors", ErrNotADisk, s.capacity)
	case s.grain < 1 || s.grain > maxGrain || s.grain&(s.grain-1) != 0:
		return fmt.Errorf("%w: its header claims grains of %d sectors", ErrNotADisk, s.grain)
	case s.tables < 1 || s.tables > maxTables || s.tables < pieces(s.capacity, s.entries*s.grain):
		return fmt.Errorf("%w: its header claims %d tables for %d sectors", ErrNotADisk, s.tables, s.capacity)
	}
	return nil
}

// pieces is how many of a size make up the whole.
func pieces(whole, size int64) int64 { return (whole + size - 1) / size }

// atEnd stands for the place of a directory that only the footer tells: who
// wrote the stream did not know it yet.
const atEnd = 1<<64 - 1

func readKDMV(f io.ReaderAt, size int64, head []byte) (*sparse, error) {
	if binary.LittleEndian.Uint64(head[56:]) != atEnd {
		return parseKDMV(head)
	}
	// marker, footer, end-of-stream marker
	tail := make([]byte, 3*sectorSize)
	if size < int64(len(tail)) {
		return nil, ErrTruncated
	}
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return nil, err
	}
	const footer = 3 // the marker's type
	if !marker(tail, footer) || !marker(tail[2*sectorSize:], 0) || !bytes.HasPrefix(tail[sectorSize:], []byte(magicKDMV)) {
		return nil, fmt.Errorf("%w: its footer is missing", ErrTruncated)
	}
	s, err := parseKDMV(head)
	if err != nil {
		return nil, err
	}
	end, err := parseKDMV(tail[sectorSize:])
	if err != nil {
		return nil, err
	}
	if end.capacity != s.capacity || end.grain != s.grain || end.compressed != s.compressed {
		return nil, fmt.Errorf("%w: its header and its footer differ", ErrNotADisk)
	}
	s.directory = end.directory
	return s, nil
}

// marker tells whether a sector is a metadata marker of a type.
func marker(at []byte, kind uint32) bool {
	return binary.LittleEndian.Uint32(at[8:]) == 0 && binary.LittleEndian.Uint32(at[12:]) == kind
}

func parseKDMV(head []byte) (*sparse, error) {
	flags := binary.LittleEndian.Uint32(head[8:])
	s := &sparse{
		kind:       Sparse,
		capacity:   sectors(head[12:]),
		grain:      sectors(head[20:]),
		text:       sectors(head[28:]),
		room:       sectors(head[36:]),
		entries:    int64(binary.LittleEndian.Uint32(head[44:])),
		directory:  sectors(head[56:]),
		dirty:      head[72] == 1,
		zeroes:     flags&(1<<2) != 0,
		compressed: binary.LittleEndian.Uint16(head[77:]) == 1,
		entrySize:  4,
	}
	s.nested = s.capacity == 0 && s.text != 0
	version := binary.LittleEndian.Uint32(head[4:])
	switch {
	case version < 1 || version > 3:
		return nil, fmt.Errorf("%w: it is a VMDK of the unknown version %d", ErrNotADisk, version)
	case flags&1 != 0 && string(head[73:77]) != "\n \r\n":
		return nil, fmt.Errorf("%w: a transfer as text has damaged it; copy it again as binary data", ErrNotADisk)
	case s.nested:
		return s, nil
	case s.entries < 1 || s.entries > maxEntries || s.grain < 1 || s.grain > maxGrain:
		return nil, fmt.Errorf("%w: its header claims tables of %d grains of %d sectors", ErrNotADisk, s.entries, s.grain)
	case s.compressed && s.grain > maxDeflate:
		return nil, fmt.Errorf("%w: its header claims compressed grains of %d sectors", ErrNotADisk, s.grain)
	case s.compressed && flags&(1<<17) == 0:
		return nil, fmt.Errorf("%w: it is compressed without markers", ErrNotADisk)
	}
	s.tables = pieces(s.capacity, s.entries*s.grain)
	return s, nil
}

func readCOWD(_ io.ReaderAt, _ int64, head []byte) (*sparse, error) {
	word := func(at int) int64 { return int64(binary.LittleEndian.Uint32(head[at:])) }
	if version := word(4); version != 1 {
		return nil, fmt.Errorf("%w: it is a VMDK of the unknown version %d", ErrNotADisk, version)
	}
	return &sparse{kind: VMFSSparse, capacity: word(12), grain: word(16), directory: word(20), tables: word(24), entries: 4096, entrySize: 4}, nil
}

// readSESparse reads a space-efficient sparse extent, VMware's newer format of
// snapshots.
func readSESparse(f io.ReaderAt, _ int64, head []byte) (*sparse, error) {
	const version, grain, tableSectors = 0x0000000200000001, 8, 64
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(head[8*i:]) }
	if at(1) != version || at(3) != grain || at(4) != tableSectors {
		return nil, fmt.Errorf("%w: it is a VMDK of the unknown version %#x", ErrNotADisk, at(1))
	}
	s := &sparse{kind: SESparse, capacity: sectors(head[16:]), grain: grain, entries: tableSectors * sectorSize / 8, entrySize: 8,
		directory: sectors(head[128:]), tables: sectors(head[136:]) * sectorSize / 8,
		tableArea: sectors(head[144:]), grainArea: sectors(head[192:])}
	volatile := make([]byte, sectorSize)
	if _, err := f.ReadAt(volatile, sectors(head[80:])*sectorSize); err != nil {
		return nil, fmt.Errorf("%w: its second header is missing", ErrTruncated)
	}
	if binary.LittleEndian.Uint64(volatile[24:]) != 0 {
		return nil, fmt.Errorf("%w: its journal was never replayed: power the VM on and shut it down in VMware, or remove its snapshots there, and copy it again", ErrNotADisk)
	}
	return s, nil
}

// sectors is a number of sectors, or one that is too large to be meant.
func sectors(at []byte) int64 {
	return int64(min(binary.LittleEndian.Uint64(at), maxSectors+1))
}
