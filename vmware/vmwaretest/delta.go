package vmwaretest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// What a delta's extent is made of.
//
// Source: VMware Virtual Disk Format 5.0, "ESX Server Sparse Extents"; QEMU,
// block/vmdk.c, VMDK3Header.
const (
	cowdHeader = 4    // sectors
	cowdTable  = 4096 // grains of a sector each
)

// writeExtent writes a delta's extent, if it is not as it should be: the sectors in
// which the delta differs from its parent. s.mu is held.
func (l *layer) writeExtent() (err error) {
	if !l.stale {
		return nil
	}
	f, err := os.OpenFile(l.extent(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	d := &delta{f: f, size: l.size}
	d.layOut()
	if err := d.differences(l); err != nil {
		return err
	}
	l.stale = false
	return d.end()
}

// delta is an extent that is written.
type delta struct {
	f         *os.File
	size      int64 // of the disk
	tables    int64
	free      int64 // sector behind the last
	directory []byte
	err       error
}

// layOut makes room for the header and the directory.
func (d *delta) layOut() {
	d.tables = (d.size/sector + cowdTable - 1) / cowdTable
	d.directory = make([]byte, (d.tables*4+sector-1)/sector*sector)
	d.free = cowdHeader + int64(len(d.directory))/sector
}

// differences writes each run of a table's sectors in which a layer and its parent differ.
func (d *delta) differences(l *layer) error {
	own, err := os.Open(l.raw)
	if err != nil {
		return err
	}
	defer own.Close()
	below, err := os.Open(l.parent.raw)
	if err != nil {
		return err
	}
	defer below.Close()
	if same(own, below) {
		return nil
	}
	span := int64(cowdTable * sector)
	for n := range d.tables {
		length := min(span, d.size-n*span)
		a, errA := io.ReadAll(io.NewSectionReader(own, n*span, length))
		b, errB := io.ReadAll(io.NewSectionReader(below, n*span, length))
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			d.table(n, a, b)
		}
	}
	return d.err
}

// same tells whether two files are one.
func same(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// table writes one table, and the sectors of a that are not those of b behind it.
func (d *delta) table(n int64, a, b []byte) {
	binary.LittleEndian.PutUint32(d.directory[4*n:], uint32(d.free))
	entries, at := make([]byte, 4*cowdTable), d.free
	d.free += int64(len(entries)) / sector
	for i := 0; i < len(a); i += sector {
		if bytes.Equal(a[i:i+sector], b[i:i+sector]) {
			continue
		}
		binary.LittleEndian.PutUint32(entries[i/sector*4:], uint32(d.free))
		d.put(a[i:i+sector], d.free)
		d.free++
	}
	d.put(entries, at)
}

func (d *delta) put(p []byte, at int64) {
	_, err := d.f.WriteAt(p, at*sector)
	d.err = errors.Join(d.err, err)
}

// end writes the header and the directory.
func (d *delta) end() error {
	head := make([]byte, cowdHeader*sector)
	copy(head, "COWD")
	for i, v := range []int64{1, 3, d.size / sector, 1, cowdHeader, d.tables, d.free} {
		binary.LittleEndian.PutUint32(head[4+4*i:], uint32(v))
	}
	d.put(head, 0)
	d.put(d.directory, cowdHeader)
	return d.err
}
