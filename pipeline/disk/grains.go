package disk

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"sync"

	"hyper2kvm/pipeline/disk/inflate"
)

// runs are those of a range of a sparse extent that begins at a byte of the disk.
// Tables are read each time that they are asked for: a piece of a disk needs a few
// bytes of them, and the kernel keeps them.
func (s *sparse) runs(ctx context.Context, f File, begin, off, n int64) iter.Seq2[run, error] {
	return func(yield func(run, error) bool) {
		j := joiner{yield: yield}
		grain := s.grain * sectorSize
		for perTable, end := grain*s.entries, off+n; off < end; {
			table, inside := (off-begin)/perTable, (off-begin)%perTable
			length := min(end-off, perTable-inside)
			entries, err := s.readEntries(ctx, f, table, inside/grain, pieces(inside+length, grain))
			if err != nil {
				yield(run{}, fmt.Errorf("%s: %w", f.Name(), err))
				return
			}
			for i, entry := range entries {
				skip := int64(0)
				if i == 0 {
					skip = inside % grain
				}
				r, err := s.run(f, entry)
				if err != nil {
					yield(run{}, fmt.Errorf("%s: %w", f.Name(), err))
					return
				}
				r.off, r.length = off, min(grain-skip, end-off)
				if r.kind == deflated {
					r.skip, r.grain = skip, grain
				} else {
					r.at += skip
				}
				if off += r.length; !j.add(r) {
					return
				}
			}
		}
		j.end()
	}
}

// readEntries reads the entries first to end of a table; zeroes if there is none.
func (s *sparse) readEntries(ctx context.Context, f File, table, first, end int64) ([]uint64, error) {
	entries := make([]uint64, end-first)
	if table >= s.tables {
		return nil, fmt.Errorf("%w: it has %d tables", ErrNotADisk, s.tables)
	}
	var entry [8]byte
	if err := readTable(ctx, f, entry[:s.entrySize], s.directory*sectorSize+table*s.entrySize); err != nil {
		return nil, err
	}
	place, err := s.table(number(entry[:s.entrySize]))
	if err != nil || place == 0 {
		return entries, err
	}
	text := make([]byte, int64(len(entries))*s.entrySize)
	if err := readTable(ctx, f, text, place*sectorSize+first*s.entrySize); err != nil {
		return nil, err
	}
	for i := range entries {
		entries[i] = number(text[int64(i)*s.entrySize:][:s.entrySize])
	}
	return entries, nil
}

// number is an entry of a table, of 4 or 8 bytes.
func number(b []byte) uint64 {
	if len(b) == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return uint64(binary.LittleEndian.Uint32(b))
}

// run is how a grain is held, by its entry in a table.
func (s *sparse) run(f File, entry uint64) (run, error) {
	at, err := s.place(entry)
	switch {
	case err != nil:
		return run{}, err
	case at == 0 && s.zeroedBy(entry):
		return run{kind: zeroed}, nil
	case at == 0:
		return run{}, nil
	case s.compressed:
		return run{kind: deflated, file: f, at: at * sectorSize}, nil
	}
	return run{kind: plain, file: f, at: at * sectorSize}, nil
}

// zeroedBy tells whether a grain that the file does not hold is zeroes, whatever the
// disk beneath has.
//
// Source: QEMU, block/vmdk.c, get_cluster_offset.
func (s *sparse) zeroedBy(entry uint64) bool { return entry != 0 }

// joiner joins runs that are one.
type joiner struct {
	yield func(run, error) bool
	last  run
}

// add takes a run behind the last one; false when no more are wanted.
func (j *joiner) add(r run) bool {
	l := &j.last
	if l.length > 0 && l.kind == r.kind && l.kind != deflated && (l.kind != plain || l.at+l.length == r.at) {
		l.length += r.length
		return true
	}
	was := j.last
	j.last = r
	return was.length == 0 || j.yield(was, nil)
}

// end gives the last run out.
func (j *joiner) end() {
	if j.last.length > 0 {
		j.yield(j.last, nil)
	}
}

// markerSize is that of what stands before a compressed grain: its sector and how
// many bytes it has.
const markerSize = 12

// decoders are kept: each has tables of some size.
var decoders = sync.Pool{New: func() any { return new(inflate.Decoder) }}

// inflate fills p with a run of a compressed grain.
func (d *Content) inflate(ctx context.Context, r run, p []byte) error {
	at := place{r.file, r.at}
	if d.kept != nil && d.kept.read(at, p, r.skip) {
		return nil
	}
	decoder := decoders.Get().(*inflate.Decoder)
	defer decoders.Put(decoder)
	grain, err := r.decode(ctx, decoder)
	if err != nil {
		return err
	}
	if d.kept != nil && !d.once {
		d.kept.add(at, grain)
	}
	if int64(len(grain)) < r.skip+int64(len(p)) {
		return r.damaged(fmt.Errorf("%w: they have %d bytes", inflate.ErrDamaged, len(grain)))
	}
	copy(p, grain[r.skip:])
	return nil
}

// decode decompresses a grain, which is good until the decoder's next one.
//
// Source: VMware Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
func (r run) decode(ctx context.Context, d *inflate.Decoder) ([]byte, error) {
	var marker [markerSize]byte
	if err := readWhole(ctx, r.file, marker[:], r.at); err != nil {
		return nil, err
	}
	size := int64(binary.LittleEndian.Uint32(marker[8:]))
	if size == 0 || size > 2*r.grain { // QEMU takes no more either
		return nil, r.damaged(fmt.Errorf("%w: they take %d bytes", inflate.ErrDamaged, size))
	}
	if err := readWhole(ctx, r.file, d.Input(int(size)), r.at+markerSize); err != nil {
		return nil, err
	}
	grain, err := d.Zlib(int(r.grain))
	if err != nil {
		return nil, r.damaged(err)
	}
	return grain, nil
}

func (r run) damaged(why error) error {
	return fmt.Errorf("%s: %w: the grain at %d: %w", r.file.Name(), ErrDamaged, r.at, why)
}
