package lvm

import (
	"fmt"
	"slices"
)

// Segment is a run of a volume's bytes.
type Segment struct {
	Size int64 // bytes
	// Chunk is how many bytes one stripe has before it is the next one's turn; 0
	// where there is a single one.
	Chunk   int64
	Stripes []Stripe
}

// Stripe is where a segment's bytes begin on a physical volume.
type Stripe struct {
	Member string // its UUID
	Start  int64  // bytes
}

// Bounds of numbers: LVM counts extents with 32 bits.
const (
	maxExtents    = 1 << 32
	maxExtentSize = 1 << 32 // sectors
	maxSize       = 1 << 62 // bytes
	maxSeq        = 1 << 62
	minChunk      = 4096 // bytes; Source: LVM2 lib/metadata/metadata-exported.h, STRIPE_SIZE_MIN
)

// member is a physical volume as its group describes it.
type member struct {
	uuid    string
	start   int64 // of its first extent, bytes
	extents int64
	missing bool
	closed  bool
}

// readMember reads a physical volume in a group with extents of so many bytes.
// What LVM could not find when the group was last changed is marked since: what
// lies there is old.
//
// Source: LVM2 lib/format_text/flags.c, MISSING_PV.
func readMember(pv *section, extent int64) (m member, err error) {
	m = member{
		uuid:    pv.one("id"),
		missing: slices.Contains(pv.list("flags"), "MISSING") || slices.Contains(pv.list("status"), "MISSING"),
		closed:  !slices.Contains(pv.list("status"), "ALLOCATABLE"),
	}
	if m.start, err = pv.number("pe_start", maxSize/2/sector); err != nil {
		return m, err
	}
	m.start *= sector
	if m.extents, err = pv.number("pe_count", maxExtents); err != nil {
		return m, err
	}
	if extent == 0 || m.extents > (maxSize-m.start)/extent {
		return m, fmt.Errorf("%w: %d extents of %d bytes", ErrMetadata, m.extents, extent)
	}
	return m, nil
}

// readVolume adds up a volume's segments. Extents have so many bytes.
func readVolume(lv *section, extent int64, members map[string]member) (Volume, error) {
	v := Volume{Name: lv.name, UUID: lv.one("id")}
	extents := int64(0)
	for _, s := range lv.sections {
		first, err := s.number("start_extent", maxExtents)
		if err != nil {
			return v, err
		}
		count, err := s.number("extent_count", maxExtents)
		if err != nil {
			return v, err
		}
		if extent > 0 && count > (maxSize-v.Size)/extent {
			return v, fmt.Errorf("%w: it is too large", ErrMetadata)
		}
		v.Size += count * extent
		switch kind := s.one("type"); {
		case kind != "striped":
			v.Problem = fmt.Sprintf("a volume of type %q", kind)
		case first != extents:
			v.Problem = "its segments do not follow each other"
		default:
			if err := v.lieOn(s, count, extent, members); err != nil {
				return v, err
			}
		}
		extents += count
	}
	return v, nil
}

// lieOn adds a segment of so many extents: each stripe is named by its member
// and the extent at which it begins there.
func (v *Volume) lieOn(s *section, count, extent int64, members map[string]member) error {
	stripes := s.list("stripes")
	n := int64(len(stripes) / 2)
	if n == 0 || count == 0 || count%n != 0 {
		return fmt.Errorf("%w: %d extents on %d stripes", ErrMetadata, count, n)
	}
	seg := Segment{Size: count * extent}
	for ; len(stripes) >= 2; stripes = stripes[2:] {
		m, ok := members[stripes[0]]
		if !ok {
			v.Problem = "a volume on another volume"
			return nil
		}
		at, err := number(stripes[1], maxExtents)
		if err != nil || at+count/n > m.extents {
			return fmt.Errorf("%w: %d extents from %s of %d on %s", ErrMetadata, count/n, stripes[1], m.extents, stripes[0])
		}
		if m.missing {
			v.Problem = fmt.Sprintf("its physical volume %s was missing when the group was last changed", m.uuid)
		}
		if !slices.Contains(v.On, m.uuid) {
			v.On = append(v.On, m.uuid)
		}
		seg.Stripes = append(seg.Stripes, Stripe{m.uuid, m.start + at*extent})
	}
	if n > 1 {
		chunk, err := s.number("stripe_size", maxExtentSize)
		if err != nil {
			return err
		}
		if seg.Chunk = chunk * sector; seg.Chunk < minChunk || seg.Size/n%seg.Chunk != 0 {
			return fmt.Errorf("%w: stripes of %d bytes", ErrMetadata, seg.Chunk)
		}
	}
	v.Segments = append(v.Segments, seg)
	return nil
}
