// Package lvm reads what LVM wrote at the head of a physical volume: its own
// UUID, the volume group that it is in, and where the group's volumes lie.
// Nothing is assembled. The reader is bounded, since the disks are a guest's,
// and every engine uses it, so that they name volumes alike.
//
// Member: one physical volume. Group: a volume group, as one copy of its
// metadata has it. Volume: a logical volume of a group.
//
// Source: LVM2 lib/format_text/layout.h, format-text.c; lib/label/label.h.
package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrMetadata is a physical volume that LVM would not take for one.
var ErrMetadata = errors.New("invalid LVM metadata")

// Member is one physical volume.
type Member struct {
	UUID string
	// Group is what the member's newest copy of the metadata says; nil when it
	// keeps none, or is in no group.
	Group *Group
	// AtEnd tells that it keeps a copy of the metadata behind its extents.
	AtEnd bool
	// Fixed is why nobody but LVM may change the group, by what is kept here; "" if
	// Grow may.
	Fixed string
}

const (
	sector       = 512
	labelSectors = 4        // the label is in one of these
	maxMetadata  = 16 << 20 // a text of 1 MiB describes thousands of volumes
	maxAreas     = 16       // two of them are usual
)

// The texts that LVM knows its structures by.
var (
	labelID = []byte("LABELONE")
	labelOf = []byte("LVM2 001")
	magic   = []byte(" LVM2 x[5A%r0N*>")
)

// Read reads the label and the metadata of a physical volume of size bytes.
func Read(r io.ReaderAt, size int64) (Member, error) {
	m, areas, err := readLabel(r, size)
	if err != nil {
		return Member{}, err
	}
	var damaged error
	for _, a := range areas {
		c, err := readCopy(r, size, a)
		switch {
		case errors.Is(err, ErrMetadata): // another area may be whole
			damaged, m.Fixed = err, "a copy of its metadata is damaged"
		case err != nil:
			return Member{}, err
		case c != nil:
			m.take(c)
		}
	}
	if m.Group == nil && damaged != nil {
		return m, damaged
	}
	return m, nil
}

// take takes a copy for the newest, if it is.
func (m *Member) take(c *written) {
	if m.Group != nil && m.Group.Seq != c.group.Seq {
		m.Fixed = "a copy of its metadata is older than another"
	}
	if why := c.fixed(); why != "" {
		m.Fixed = why
	}
	if m.Group == nil || c.group.Seq > m.Group.Seq {
		m.Group = c.group
	}
}

// readLabel reads what a physical volume says of itself, and where its areas of
// metadata are.
func readLabel(r io.ReaderAt, size int64) (Member, []area, error) {
	label, err := findLabel(r, size)
	if err != nil {
		return Member{}, nil, err
	}
	return parseLabel(label)
}

// findLabel is the sector of the label.
func findLabel(r io.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, labelSectors*sector)
	if size < int64(len(head)) {
		return nil, fmt.Errorf("%w: a volume of %d bytes", ErrMetadata, size)
	}
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("label: %w", err)
	}
	for i := range uint64(labelSectors) {
		s := head[i*sector : (i+1)*sector]
		if bytes.HasPrefix(s, labelID) && le64(s[8:]) == i && le32(s[16:]) == sum(s[20:]) && bytes.Equal(s[24:32], labelOf) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: no label", ErrMetadata)
}

// area is a part of the physical volume, in bytes.
type area struct{ start, size int64 }

// parseLabel reads what follows the label: the UUID, the areas of data, and
// those of metadata, each list ended by an empty entry.
func parseLabel(s []byte) (m Member, metadata []area, err error) {
	at := int(le32(s[20:]))
	if at < 32 || at+40 > sector {
		return m, nil, fmt.Errorf("%w: label of %d bytes", ErrMetadata, at)
	}
	m.UUID = dashed(string(s[at : at+32]))
	lists, data := 0, int64(0)
	for rest := s[at+40:]; len(rest) >= 16 && lists < 2 && len(metadata) < maxAreas; rest = rest[16:] {
		a := area{int64(le64(rest)), int64(le64(rest[8:]))}
		switch {
		case a.start == 0:
			lists++
		case lists == 0:
			data = a.start
		default:
			metadata = append(metadata, a)
			m.AtEnd = m.AtEnd || a.start > data
		}
	}
	return m, metadata, nil
}

const (
	areaHeader = 512
	ignored    = 1 // of a location's flags: the area is kept as a spare
)

// written is a copy of a group's metadata, and where it is in the area that has it.
type written struct {
	header []byte // of the area
	area   area
	offset int64 // of the text, from the area's start
	text   []byte
	group  *Group
}

// readCopy reads the group that a metadata area describes; nil for none. The
// text is in a ring: what does not fit behind it goes on after the header.
func readCopy(r io.ReaderAt, size int64, a area) (*written, error) {
	if a.start < 0 || a.size < 2*areaHeader || a.start > size-areaHeader || a.size > size-a.start {
		return nil, fmt.Errorf("%w: an area of %d bytes at %d", ErrMetadata, a.size, a.start)
	}
	h := make([]byte, areaHeader)
	if _, err := r.ReadAt(h, a.start); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if le32(h) != sum(h[4:]) || !bytes.Equal(h[4:20], magic) || le32(h[20:]) != 1 {
		return nil, fmt.Errorf("%w: the header at %d is damaged", ErrMetadata, a.start)
	}
	offset, length, check, flags := int64(le64(h[40:])), int64(le64(h[48:])), le32(h[56:]), le32(h[60:])
	if offset == 0 || flags&ignored != 0 {
		return nil, nil
	}
	if length < 1 || length > min(maxMetadata, a.size-areaHeader) || offset < areaHeader || offset >= a.size {
		return nil, fmt.Errorf("%w: %d bytes at %d of an area of %d", ErrMetadata, length, offset, a.size)
	}
	text := make([]byte, length)
	first := min(length, a.size-offset)
	if _, err := r.ReadAt(text[:first], a.start+offset); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if _, err := r.ReadAt(text[first:], a.start+areaHeader); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if sum(text) != check {
		return nil, fmt.Errorf("%w: wrong checksum", ErrMetadata)
	}
	g, err := parseGroup(text)
	if err != nil {
		return nil, err
	}
	return &written{h, a, offset, text, g}, nil
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// sum is LVM's checksum: CRC-32 that begins with a value of its own and is not
// inverted at the end.
//
// Source: LVM2 lib/misc/crc.c, INITIAL_CRC.
func sum(data []byte) uint32 {
	const initial = 0xf597a6cf
	return ^crc32.Update(^uint32(initial), crc32.IEEETable, data)
}

// dashed is a UUID as LVM prints it, of the 32 characters that it stores.
func dashed(id string) string {
	if len(id) != 32 {
		return id
	}
	return id[:6] + "-" + id[6:10] + "-" + id[10:14] + "-" + id[14:18] + "-" + id[18:22] + "-" + id[22:26] + "-" + id[26:]
}
