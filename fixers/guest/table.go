package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Partition tables are read by ourselves: some kernels have no partition
// scanner, and a hostile table must neither hang nor exhaust us. (go-diskfs
// knows no logical partitions, allocates what a GPT header asks for, and takes
// a stale GPT without a protective MBR for the truth.) What counts is what the
// guest's own kernel sees.
//
// Sources: UEFI specification 2.10, chapter 5; Linux block/partitions/efi.c, msdos.c.

const (
	sector = 512
	// maxEntries bounds a GPT; 128 are usual, Linux uses 255 of them.
	maxEntries = 1024
	// maxLogical is how many partitions Linux takes from a disk.
	maxLogical = 255
	entrySize  = 128
	// protective is the type of the MBR's partition that stands for a GPT.
	protective = 0xee
)

// ErrTable is a partition table that no kernel would use.
var ErrTable = errors.New("invalid partition table")

// ReadTable reads a disk's size, boot code and partition table: GPT, or MBR with
// logical partitions. A disk without a table has Table "", and so has one whose
// error wraps ErrTable, and one that is a member of an array as a whole. Both
// engines use it, so that they cannot disagree.
func ReadTable(r io.ReaderAt, size int64) (Disk, error) {
	disk, err := readTable(r, size)
	if err != nil || len(disk.Partitions) == 0 {
		return disk, err
	}
	return disk.withoutArrays(r)
}

func readTable(r io.ReaderAt, size int64) (Disk, error) {
	disk := Disk{Size: size}
	first := make([]byte, sector)
	if size < 2*sector {
		return disk, nil
	}
	if _, err := r.ReadAt(first, 0); err != nil {
		return disk, fmt.Errorf("first sector: %w", err)
	}
	disk.BootCode = BootCode(first)
	entries := mbrEntries(first)
	if entries == nil {
		return disk, nil
	}
	for _, e := range entries {
		if e.kind == protective {
			return readGPT(r, disk, entries)
		}
	}
	return readMBR(r, disk, binary.LittleEndian.Uint32(first[440:]), entries)
}

// mbrEntry is one line of an MBR or of a link in the chain of logical ones.
type mbrEntry struct {
	kind          byte
	start, length int64 // sectors; start is relative to what kind says
}

// mbrEntries are the four entries of a sector, nil if it is no MBR.
func mbrEntries(s []byte) []mbrEntry {
	if s[510] != 0x55 || s[511] != 0xaa {
		return nil
	}
	var entries []mbrEntry
	for e := s[446:510]; len(e) > 0; e = e[16:] {
		if e[0] != 0 && e[0] != 0x80 { // a boot sector of FAT or NTFS
			return nil
		}
		entries = append(entries, mbrEntry{kind: e[4],
			start: int64(binary.LittleEndian.Uint32(e[8:])), length: int64(binary.LittleEndian.Uint32(e[12:]))})
	}
	return entries
}

func readMBR(r io.ReaderAt, disk Disk, signature uint32, entries []mbrEntry) (Disk, error) {
	disk.Table, disk.ID = "mbr", fmt.Sprintf("%08x", signature)
	for i, e := range entries {
		if e.kind == 0 || e.length == 0 {
			continue
		}
		add(&disk, i+1, e, e.start)
	}
	next := 5
	for _, p := range disk.Partitions {
		if IsExtended(p.Type) {
			var err error
			if next, err = readLogical(r, &disk, p, next); err != nil {
				return disk, err
			}
		}
	}
	for i := range disk.Partitions {
		disk.Partitions[i].UUID = MBRPartUUID(signature, disk.Partitions[i].Number)
	}
	return disk, nil
}

// readLogical follows the chain of logical partitions inside an extended one
// and returns the next free number.
func readLogical(r io.ReaderAt, disk *Disk, extended Partition, number int) (int, error) {
	first, length := extended.Start/sector, extended.Size/sector
	at := first
	b := make([]byte, sector)
	seen := map[int64]bool{}
	for len(seen) < maxLogical && number < maxLogical {
		if seen[at] || (at+1)*sector > disk.Size {
			return number, nil
		}
		seen[at] = true
		if _, err := r.ReadAt(b, at*sector); err != nil {
			return number, fmt.Errorf("logical partitions: %w", err)
		}
		entries := mbrEntries(b)
		if entries == nil {
			return number, nil
		}
		next := int64(0)
		for i, e := range entries {
			start := at + e.start
			switch {
			case e.length == 0:
			case IsExtended(fmt.Sprintf("%02x", e.kind)):
				if next == 0 {
					next = first + e.start
				}
			case i >= 2 && (start < first || start+e.length > first+length): // as Linux: odd tools leave rubbish there
			default: // a type of zero too: Linux counts it, and the numbers behind it follow
				add(disk, number, e, start)
				number++
			}
		}
		if next == 0 {
			return number, nil
		}
		at = next
	}
	return number, nil
}

// add appends a partition unless it begins behind the disk's end; one that
// reaches over the end is cut, as Linux does.
func add(disk *Disk, number int, e mbrEntry, start int64) {
	if start == 0 || start*sector >= disk.Size {
		return
	}
	disk.Partitions = append(disk.Partitions, Partition{
		Number: number, Start: start * sector, Size: min(e.length*sector, disk.Size-start*sector), Type: fmt.Sprintf("%02x", e.kind)})
}

func readGPT(r io.ReaderAt, disk Disk, mbr []mbrEntry) (Disk, error) {
	h := make([]byte, sector)
	if _, err := r.ReadAt(h, sector); err != nil {
		return disk, fmt.Errorf("GPT header: %w", err)
	}
	le := binary.LittleEndian
	length, count, size, table := le.Uint32(h[12:]), le.Uint32(h[80:]), le.Uint32(h[84:]), le.Uint64(h[72:])
	sectors := uint64(disk.Size / sector)
	switch {
	case !bytes.Equal(h[:8], []byte("EFI PART")):
		return disk, fmt.Errorf("GPT header: %w: no signature", ErrTable)
	case length < 92 || length > sector || !sumIs(zeroed(h[:length]), le.Uint32(h[16:])):
		return disk, fmt.Errorf("GPT header: %w: wrong checksum", ErrTable)
	case size != entrySize || count > maxEntries || table > sectors || table*sector+uint64(count*size) > sectors*sector:
		return disk, fmt.Errorf("GPT header: %w: %d entries of %d bytes at sector %d", ErrTable, count, size, table)
	}
	entries := make([]byte, count*size)
	if _, err := r.ReadAt(entries, int64(table)*sector); err != nil {
		return disk, fmt.Errorf("GPT entries: %w", err)
	}
	if !sumIs(entries, le.Uint32(h[88:])) {
		return disk, fmt.Errorf("GPT entries: %w: wrong checksum", ErrTable)
	}
	disk.Table, disk.ID = "gpt", guid(h[56:72])
	if usable, backup := le.Uint64(h[48:])+1, le.Uint64(h[32:]); plain(mbr) && usable > 1 && usable < backup && backup < sectors {
		disk.Usable, disk.Backup = int64(usable)*sector, int64(backup)*sector
	}
	for number := 1; len(entries) > 0; number, entries = number+1, entries[entrySize:] {
		if p, ok := gptEntry(entries[:entrySize], disk.Size); ok {
			p.Number = number
			disk.Partitions = append(disk.Partitions, p)
		}
	}
	return disk, nil
}

// plain tells of an MBR that stands for a GPT alone. A hybrid one names some of
// its partitions too, for systems that know no GPT.
func plain(mbr []mbrEntry) bool {
	named := 0
	for _, e := range mbr {
		if e.kind != 0 {
			named++
		}
	}
	return named == 1
}

func sumIs(data []byte, sum uint32) bool { return crc32.ChecksumIEEE(data) == sum }

// zeroed is the header as its checksum was made: without the checksum.
func zeroed(header []byte) []byte {
	header = bytes.Clone(header)
	clear(header[16:20])
	return header
}

func gptEntry(e []byte, diskSize int64) (Partition, bool) {
	le := binary.LittleEndian
	start, end, sectors := le.Uint64(e[32:]), le.Uint64(e[40:]), uint64(diskSize/sector)
	if bytes.Count(e[:16], []byte{0}) == 16 || start > end || end >= sectors {
		return Partition{}, false
	}
	var label []uint16
	for b := e[56:entrySize]; len(b) > 0 && le.Uint16(b) != 0; b = b[2:] {
		label = append(label, le.Uint16(b))
	}
	return Partition{Start: int64(start) * sector, Size: int64(end-start+1) * sector,
		Type: guid(e[:16]), UUID: guid(e[16:32]), Label: string(utf16.Decode(label))}, true
}

// guid prints a GUID as it is stored: the first three fields little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}
