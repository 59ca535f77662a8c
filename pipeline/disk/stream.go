package disk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hyper2kvm/pipeline/disk/inflate"
)

// Kinds of metadata in a stream, by their markers.
//
// Source: VMware Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
const (
	endOfStream = iota
	grainTable
	grainDirectory
	streamFooter
)

// Bounds of a stream: what stands before the first grain, in sectors, and behind its
// end, in bytes.
const (
	mostOverhead = 1 << 17
	mostBehind   = 64 << 10
)

// ReadStream reads a streamOptimized VMDK of a disk of size bytes while it arrives, and
// puts each of its grains, which is good until put returns. What is not put is zeroes.
// ErrTruncated is a stream that ends early: nothing of it is to be taken for the disk.
func ReadStream(from io.Reader, size int64, put func(grain []byte, off int64) error) error {
	r := &streamReader{from: bufio.NewReaderSize(from, 1<<20), size: size, put: put}
	if err := r.header(); err != nil {
		return early(err)
	}
	for {
		if last, err := r.next(); err != nil {
			return early(err)
		} else if last {
			return r.behind()
		}
	}
}

// early says of an end that it is no stream's.
func early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the stream ends early", ErrTruncated)
	}
	return err
}

type streamReader struct {
	from    *bufio.Reader
	size    int64 // of the disk, bytes
	put     func(grain []byte, off int64) error
	head    *sparse
	footed  bool     // the footer came
	have    []uint64 // a bit for each grain that came
	tables  int64    // that came
	decoder inflate.Decoder
	sector  [sectorSize]byte
}

// header reads what stands before the grains.
func (r *streamReader) header() (err error) {
	if err := r.read(); err != nil {
		return err
	}
	if !bytes.HasPrefix(r.sector[:], []byte(magicKDMV)) {
		return fmt.Errorf("%w: the stream begins with %.8q", ErrNotADisk, r.sector[:8])
	}
	if r.head, err = parseKDMV(r.sector[:]); err != nil {
		return err
	}
	s := r.head
	if err := s.plausible(); err != nil {
		return err
	}
	padding := s.capacity*sectorSize - r.size
	overhead := sectors(r.sector[64:])
	switch {
	case !s.compressed || s.nested:
		return fmt.Errorf("%w: it is no stream", ErrNotADisk)
	case padding < 0 || padding >= s.grain*sectorSize:
		return fmt.Errorf("%w: the stream is of a disk of %d bytes, and this one has %d", ErrNotADisk, s.capacity*sectorSize, r.size)
	case overhead < 1 || overhead > mostOverhead:
		return fmt.Errorf("%w: its header claims an overhead of %d sectors", ErrNotADisk, overhead)
	}
	r.footed = binary.LittleEndian.Uint64(r.sector[56:]) != atEnd
	r.have = make([]uint64, pieces(pieces(s.capacity, s.grain), 64))
	return r.skip(overhead - 1)
}

// read reads a sector.
func (r *streamReader) read() error {
	_, err := io.ReadFull(r.from, r.sector[:])
	return err
}

func (r *streamReader) skip(sectors int64) error {
	_, err := io.CopyN(io.Discard, r.from, sectors*sectorSize)
	return err
}

// next reads a marker and what follows it; last tells that it was the stream's end.
func (r *streamReader) next() (last bool, err error) {
	if err := r.read(); err != nil {
		return false, err
	}
	value, size := binary.LittleEndian.Uint64(r.sector[:]), binary.LittleEndian.Uint32(r.sector[8:])
	if size > 0 {
		return false, r.grain(value, int64(size))
	}
	switch kind := binary.LittleEndian.Uint32(r.sector[12:]); kind {
	case endOfStream:
		if value != 0 || !r.footed {
			return false, fmt.Errorf("%w: its footer is missing", ErrTruncated)
		}
		return true, nil
	case streamFooter:
		return false, r.footer(value)
	case grainTable, grainDirectory:
		return false, r.metadata(kind, value)
	default:
		return false, r.damaged("a marker of the unknown kind %d", kind)
	}
}

func (r *streamReader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: the stream has %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// metadata skips a table or the directory: the grains' markers say all that they do.
func (r *streamReader) metadata(kind uint32, count uint64) error {
	most := pieces(r.head.entries*r.head.entrySize, sectorSize)
	if kind == grainDirectory {
		most = pieces(r.head.tables*r.head.entrySize, sectorSize)
	}
	if r.tables++; count > uint64(most) || r.tables > 2*r.head.tables+2 {
		return r.damaged("%d tables, the last of %d sectors", r.tables, count)
	}
	return r.skip(int64(count))
}

// footer compares the second header with the first one.
func (r *streamReader) footer(count uint64) error {
	if count != 1 {
		return r.damaged("a footer of %d sectors", count)
	}
	if err := r.read(); err != nil {
		return err
	}
	if !bytes.HasPrefix(r.sector[:], []byte(magicKDMV)) {
		return r.damaged("no header in its footer")
	}
	end, err := parseKDMV(r.sector[:])
	if err != nil {
		return err
	}
	if end.capacity != r.head.capacity || end.grain != r.head.grain || end.compressed != r.head.compressed {
		return r.damaged("a header and a footer that differ")
	}
	r.footed = true
	return nil
}

// grain reads a compressed grain, whose first bytes stand behind its marker.
func (r *streamReader) grain(sector uint64, size int64) error {
	s := r.head
	full := s.grain * sectorSize
	if sector >= uint64(s.capacity) || int64(sector)%s.grain != 0 || size > 2*full {
		return r.damaged("a grain of %d bytes for the sector %d", size, sector)
	}
	i := int64(sector) / s.grain
	if r.have[i/64]&(1<<(i%64)) != 0 {
		return r.damaged("two grains for the sector %d", sector)
	}
	r.have[i/64] |= 1 << (i % 64)
	in := r.decoder.Input(int(size))
	n := copy(in, r.sector[markerSize:])
	if _, err := io.ReadFull(r.from, in[n:]); err != nil {
		return err
	}
	if rest := (markerSize + size) % sectorSize; rest > 0 && markerSize+size > sectorSize {
		if _, err := r.from.Discard(int(sectorSize - rest)); err != nil {
			return err
		}
	}
	grain, err := r.decoder.Zlib(int(full))
	if err != nil {
		return fmt.Errorf("%w: the grain of sector %d: %w", ErrDamaged, sector, err)
	}
	off := int64(sector) * sectorSize
	want := min(full, r.size-off)
	if int64(len(grain)) < want {
		return r.damaged("a grain of %d bytes at sector %d", len(grain), sector)
	}
	return r.put(grain[:max(want, 0)], off)
}

// behind refuses what follows the stream's end, but for padding.
func (r *streamReader) behind() error {
	rest, err := io.ReadAll(io.LimitReader(r.from, mostBehind))
	if err != nil {
		return early(err)
	}
	if len(rest) == mostBehind || len(bytes.Trim(rest, "\x00")) > 0 {
		return r.damaged("something behind its end")
	}
	return nil
}
