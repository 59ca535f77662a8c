package guest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// Partition tables are changed by ourselves too: a few numbers in bytes that stay
// otherwise as they are, so that the disk's and the partitions' IDs do, by which
// a guest knows them.
//
// Sources: UEFI specification 2.10, chapter 5; Linux block/partitions/efi.c, msdos.c.

// Bytes is a disk to read and to write.
type Bytes interface {
	io.ReaderAt
	io.WriterAt
}

// GrowTable changes a disk's partition table as it was planned, and the topology
// with it. A table that is not the topology's is ErrConflict; one that does not
// read as it was meant to afterwards is an error.
func (t *Topology) GrowTable(disk Bytes, r Resize) error {
	i := slices.IndexFunc(t.Disks, func(d Disk) bool { return d.Name == r.Disk })
	if i < 0 || !r.fits(t.Disks[i]) {
		return fmt.Errorf("%s: %w", r.Disk, ErrConflict)
	}
	if r.tableStays() {
		return nil
	}
	now, err := ReadTable(disk, r.To)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Disk, err)
	}
	if !sameTable(now, t.Disks[i]) {
		return fmt.Errorf("%s: its partition table: %w", r.Disk, ErrConflict)
	}
	patches, err := tablePatches(disk, now, r)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Disk, err)
	}
	for _, p := range patches {
		if _, err := disk.WriteAt(p.data, p.at); err != nil {
			return fmt.Errorf("%s: write the partition table: %w", r.Disk, err)
		}
	}
	return t.regrown(disk, i, r)
}

// fits tells whether the plan may be one for a disk.
func (r Resize) fits(d Disk) bool {
	for _, g := range r.Partitions {
		there := func(p Partition) bool {
			return p.Number == g.Number && p.UUID == g.UUID && p.End() == g.From && g.From < g.To && g.To <= d.Size
		}
		if !slices.ContainsFunc(d.Partitions, there) {
			return false
		}
	}
	return d.Size == r.To && d.ID == r.ID && (d.Table == "mbr" && !r.Backup || d.Usable > 0 || r.tableStays())
}

func (r Resize) tableStays() bool { return !r.Backup && len(r.Partitions) == 0 }

// regrown reads a table that was changed, and holds it to the plan.
func (t *Topology) regrown(disk Bytes, i int, r Resize) error {
	want := t.Disks[i]
	want.Partitions = slices.Clone(want.Partitions)
	for j := range want.Partitions {
		p := &want.Partitions[j]
		for _, g := range r.Partitions {
			if g.Number == p.Number {
				p.Size = g.To - p.Start
			}
		}
	}
	now, err := ReadTable(disk, r.To)
	if err != nil {
		return fmt.Errorf("%s: its new partition table: %w", r.Disk, err)
	}
	if !sameTable(now, want) {
		return fmt.Errorf("%s: its new partition table is %+v, not %+v", r.Disk, now.Partitions, want.Partitions)
	}
	want.Usable, want.Backup = now.Usable, now.Backup
	t.Disks[i] = want
	for j := range t.Filesystems {
		for _, p := range want.Partitions {
			if t.Filesystems[j].Device == p.Name {
				t.Filesystems[j].Size = p.Size
			}
		}
	}
	return nil
}

// sameTable compares tables by what ReadTable reads; names are given to the
// partitions after it.
func sameTable(a, b Disk) bool {
	unnamed := func(p, q Partition) bool { p.Name, q.Name = "", ""; return p == q }
	return a.Table == b.Table && a.ID == b.ID && slices.EqualFunc(a.Partitions, b.Partitions, unnamed)
}

// patch is bytes to be written.
type patch struct {
	at   int64
	data []byte
}

func tablePatches(disk io.ReaderAt, d Disk, r Resize) ([]patch, error) {
	if d.Table == "gpt" {
		return gptPatches(disk, d, r)
	}
	var all []patch
	for _, p := range r.Partitions {
		patches, err := mbrPatches(disk, d, p)
		if err != nil {
			return nil, err
		}
		all = append(all, patches...)
	}
	return all, nil
}

// gptPatches make both copies of a GPT anew for the disk's size, the second one
// first: until the last write one of them is whole. The second one's old header
// is cleared, which would lie in a partition now.
func gptPatches(disk io.ReaderAt, d Disk, r Resize) ([]patch, error) {
	le := binary.LittleEndian
	mbr, header, old := make([]byte, sector), make([]byte, sector), make([]byte, sector)
	for at, p := range map[int64][]byte{0: mbr, sector: header, d.Backup: old} {
		if _, err := disk.ReadAt(p, at); err != nil {
			return nil, fmt.Errorf("GPT: %w", err)
		}
	}
	entries := make([]byte, le.Uint32(header[80:])*entrySize) // bounded: ReadTable has read it
	table := int64(le.Uint64(header[72:])) * sector
	if _, err := disk.ReadAt(entries, table); err != nil {
		return nil, fmt.Errorf("GPT entries: %w", err)
	}
	for _, p := range r.Partitions {
		le.PutUint64(entries[(p.Number-1)*entrySize+40:], uint64(p.To/sector)-1)
	}
	last := d.Size/sector - 1
	usable := d.Usable/sector + last - d.Backup/sector // sectors
	second := last - int64(len(entries)+sector-1)/sector
	if usable > second {
		return nil, fmt.Errorf("%w: no room for GPT's second copy", ErrTable)
	}
	le.PutUint64(header[48:], uint64(usable)-1)
	le.PutUint32(header[88:], crc32.ChecksumIEEE(entries))
	backup := bytes.Clone(header)
	place(header, 1, last, table/sector)
	place(backup, last, 1, second)
	patches := []patch{{second * sector, entries}, {last * sector, backup}, {table, entries}, {sector, header}, {0, protected(mbr, last)}}
	if d.Backup != last*sector && bytes.Equal(old[:8], header[:8]) && bytes.Equal(old[56:72], header[56:72]) {
		patches = append(patches, patch{d.Backup, make([]byte, sector)})
	}
	return patches, nil
}

// place writes where a GPT's header is, where the other one is, and where its
// entries begin, in sectors; and its checksum, which comes last.
func place(header []byte, at, other, entries int64) {
	le := binary.LittleEndian
	le.PutUint64(header[24:], uint64(at))
	le.PutUint64(header[32:], uint64(other))
	le.PutUint64(header[72:], uint64(entries))
	le.PutUint32(header[16:], crc32.ChecksumIEEE(zeroed(header[:le.Uint32(header[12:])])))
}

// protected is an MBR whose protective partition reaches to the last sector.
func protected(mbr []byte, last int64) []byte {
	for e := mbr[446:510]; len(e) > 0; e = e[16:] {
		if e[4] == protective {
			start := int64(binary.LittleEndian.Uint32(e[8:]))
			length(e, start, min(last+1-start, 1<<32-1))
		}
	}
	return mbr
}

// length writes an MBR's entry for a partition that starts at a sector of the
// disk and has so many.
func length(entry []byte, start, sectors int64) {
	binary.LittleEndian.PutUint32(entry[12:], uint32(sectors))
	copy(entry[5:8], chs(start+sectors-1))
}

// chs is a sector's address by cylinder, head and sector, with the geometry that
// everybody uses for disks without one; the last one stands for all beyond.
func chs(sector int64) []byte {
	const heads, sectors, cylinders = 255, 63, 1024
	if sector >= cylinders*heads*sectors {
		return []byte{0xfe, 0xff, 0xff}
	}
	c, h, s := sector/(heads*sectors), sector/sectors%heads, sector%sectors+1
	return []byte{byte(h), byte(s | c>>8<<6), byte(c)}
}

// mbrPatches make one partition of an MBR longer: a primary one by its entry, a
// logical one by that in its own link of the chain and by what the link before it
// says of that.
func mbrPatches(disk io.ReaderAt, d Disk, g GrownPartition) ([]patch, error) {
	i := slices.IndexFunc(d.Partitions, func(p Partition) bool { return p.Number == g.Number })
	p := d.Partitions[i]
	sectors := (g.To - p.Start) / sector
	if !d.isLogical(p) {
		mbr := make([]byte, sector)
		if _, err := disk.ReadAt(mbr, 0); err != nil {
			return nil, err
		}
		length(mbr[446+16*(p.Number-1):], p.Start/sector, sectors)
		return []patch{{0, mbr}}, nil
	}
	for _, extended := range d.Partitions {
		if IsExtended(extended.Type) && extended.Start < p.Start && extended.End() > p.Start {
			return logicalPatches(disk, extended.Start/sector, p.Start/sector, sectors)
		}
	}
	return nil, fmt.Errorf("%w: %d is in no extended partition", ErrTable, p.Number)
}

// logicalPatches follow the chain from the extended partition's first sector to
// the link that has the partition which starts at a sector of the disk.
func logicalPatches(disk io.ReaderAt, first, start, sectors int64) ([]patch, error) {
	var before []byte // the link in front, and where it is
	var beforeAt int64
	for at, n := first, 0; n < maxLogical; n++ {
		b := make([]byte, sector)
		if _, err := disk.ReadAt(b, at*sector); err != nil {
			return nil, fmt.Errorf("logical partitions: %w", err)
		}
		next := int64(0)
		for i, e := range mbrEntries(b) {
			entry := b[446+16*i:]
			switch {
			case e.length == 0:
			case IsExtended(fmt.Sprintf("%02x", e.kind)):
				if next == 0 {
					next = first + e.start
				}
			case at+e.start == start:
				length(entry, start, sectors)
				return append([]patch{{at * sector, b}}, linked(before, beforeAt, first, at, start+sectors)...), nil
			}
		}
		if next == 0 {
			break
		}
		before, beforeAt, at = b, at, next
	}
	return nil, fmt.Errorf("%w: no logical partition starts at sector %d", ErrTable, start)
}

// linked has a link say how long the next one is, with its partition.
func linked(link []byte, at, first, next, end int64) []patch {
	if link == nil {
		return nil
	}
	for i, e := range mbrEntries(link) {
		if e.length > 0 && IsExtended(fmt.Sprintf("%02x", e.kind)) && first+e.start == next {
			length(link[446+16*i:], next, end-next)
			return []patch{{at * sector, link}}
		}
	}
	return nil
}
