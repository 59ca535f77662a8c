package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrTruncated is a disk that lacks data which its tables name: a copy that was
// interrupted. QEMU would read zeros in their place and not tell.
var ErrTruncated = errors.New("disk is cut short; copy it from the source again, whole")

// ErrDamaged is a disk of which something that it holds cannot be what was written.
var ErrDamaged = errors.New("disk is damaged; copy it from the source again, and compare the copy's checksum")

// whole refuses a VMDK with ErrTruncated of which a file is too short for what
// its tables name. It reads tables alone.
func (l link) whole(ctx context.Context) error {
	for _, p := range l.parts {
		if err := p.whole(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
	}
	return nil
}

func (p part) whole(ctx context.Context) (err error) {
	if p.path == "" {
		return nil
	}
	f, size, err := openSized(p.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if p.sparse != nil {
		return p.sparse.whole(ctx, f, size)
	}
	if want := (p.Offset + p.Sectors) * sectorSize; size < want {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, size, want)
	}
	return nil
}

// whole finds the grain that lies last in the file of size bytes, which must
// not end before it does. Every table is in the file, and lies in it once: the
// work has the file's size for a bound.
func (s *sparse) whole(ctx context.Context, f io.ReaderAt, size int64) error {
	directory := &table{f: f, size: size, at: s.directory * sectorSize, entries: s.tables, width: s.entrySize, order: binary.LittleEndian}
	end, used := int64(0), int64(0)
	for i := range s.tables {
		entry, err := directory.entry(i)
		if err != nil {
			return err
		}
		place, err := s.table(entry)
		if err != nil {
			return err
		}
		if place == 0 {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if used += s.grains(i) * s.entrySize; used > size {
			return fmt.Errorf("%w: its tables lie over one another", ErrNotADisk)
		}
		last, err := s.lastGrain(f, size, i, place)
		if err != nil {
			return err
		}
		end = max(end, last)
	}
	if s.compressed && end > 0 {
		return compressedGrain(f, size, end)
	}
	if end > size {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, size, end)
	}
	return nil
}

// lastGrain is where in the file the last grain of table i ends, in bytes, or
// where it begins if it is compressed; zero if the table names none.
func (s *sparse) lastGrain(f io.ReaderAt, size, i, place int64) (end int64, err error) {
	t := &table{f: f, size: size, at: place * sectorSize, entries: s.grains(i), width: s.entrySize, order: binary.LittleEndian}
	for j := range t.entries {
		entry, err := t.entry(j)
		if err != nil {
			return 0, err
		}
		at, err := s.place(entry)
		if err != nil {
			return 0, err
		}
		if at == 0 {
			continue
		}
		if !s.compressed {
			at += min(s.grain, s.capacity-(i*s.entries+j)*s.grain)
		}
		end = max(end, at*sectorSize)
	}
	return end, nil
}

// grains is how many entries of table i are in use: the last one has fewer.
func (s *sparse) grains(i int64) int64 {
	return min(s.entries, max(0, pieces(s.capacity, s.grain)-i*s.entries))
}

// compressedGrain checks the grain that lies last: its marker says how long it is.
func compressedGrain(f io.ReaderAt, size, at int64) error {
	marker := make([]byte, 12)
	if at+int64(len(marker)) > size {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, size, at)
	}
	if _, err := f.ReadAt(marker, at); err != nil {
		return err
	}
	if end := at + int64(len(marker)) + int64(binary.LittleEndian.Uint32(marker[8:])); end > size {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, size, end)
	}
	return nil
}

// table is the place of a table in the file by its entry in the directory; zero
// for none.
func (s *sparse) table(entry uint64) (int64, error) {
	if entry == 0 || s.kind != SESparse && entry != 1 {
		return int64(entry), nil
	}
	if entry>>32 != 0x10000000 { // and the 1 of a table of zeros, which QEMU takes for a place
		return 0, fmt.Errorf("%w: its directory has the entry %#x", ErrNotADisk, entry)
	}
	return s.tableArea + int64(entry&0xffffffff)*s.entries*s.entrySize/sectorSize, nil
}

// place is the place of a grain in the file by its entry in a table; zero for
// one that the file does not hold.
func (s *sparse) place(entry uint64) (int64, error) {
	if s.kind != SESparse {
		if entry == 1 && s.zeroes {
			return 0, nil
		}
		return int64(entry), nil
	}
	switch entry >> 60 { // none, unmapped, zeros, data
	case 0, 1, 2:
		if entry>>60 == 0 && entry != 0 {
			break // as QEMU has it
		}
		return 0, nil
	case 3:
		grain := int64(entry>>48&0xfff | entry&0xffffffffffff<<12)
		if grain > maxSectors/s.grain {
			return 0, fmt.Errorf("%w: its tables have the entry %#x", ErrNotADisk, entry)
		}
		return s.grainArea + grain*s.grain, nil
	}
	return 0, fmt.Errorf("%w: its tables have the entry %#x", ErrNotADisk, entry)
}

// table reads the entries of a table one after another.
type table struct {
	f       io.ReaderAt
	size    int64 // of the file, bytes
	at      int64 // bytes
	entries int64
	width   int64 // bytes of an entry: 4 or 8
	order   binary.ByteOrder
	buffer  []byte
	first   int64 // entry in the buffer
}

// tableBuffer is how many entries are read at once.
const tableBuffer = 4096

func (t *table) entry(i int64) (uint64, error) {
	if n := int64(len(t.buffer)) / t.width; i < t.first || i >= t.first+n {
		if end := t.at + t.entries*t.width; end > t.size {
			return 0, fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, t.size, end)
		}
		t.first = i
		t.buffer = make([]byte, min(tableBuffer, t.entries-i)*t.width)
		if _, err := t.f.ReadAt(t.buffer, t.at+i*t.width); err != nil {
			return 0, err
		}
	}
	at := t.buffer[(i-t.first)*t.width:]
	if t.width == 8 {
		return t.order.Uint64(at), nil
	}
	return uint64(t.order.Uint32(at)), nil
}
