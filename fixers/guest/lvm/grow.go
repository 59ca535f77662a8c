package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrChanged is a group that is not what a Growth was planned for.
var ErrChanged = errors.New("the volume group is not as it was planned for")

// Growth is how a physical volume becomes larger, and a logical one with it.
type Growth struct {
	Group   string // UUIDs
	Member  string
	Size    int64  // of its device, bytes
	From    int64  // extents that it has
	Extents int64  // that it gets
	Volume  string // that extents of the member are added to; "" for none
	At      int64  // the first of them
	Count   int64
}

// Device is a physical volume's, to read and to write.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Size() int64 // bytes
}

// Grow writes to all physical volumes of a group what LVM's pvresize and lvextend
// would: a new version of the group's text, in which a few numbers are other ones and
// all else stays, behind the old version. All is looked at before anything is written.
// A group that is not as planned is ErrChanged, one without room for its text
// ErrMetadata.
//
// Source: LVM2 lib/format_text/format-text.c, _vg_write_raw, _vg_commit_raw_rlocn;
// lib/metadata/pv_manip.c, pv_resize.
func Grow(devices []Device, g Growth) error {
	copies, err := readCopies(devices, g)
	if err != nil {
		return err
	}
	for i := range copies {
		if err := copies[i].grow(g); err != nil {
			return err
		}
	}
	for _, c := range copies {
		if err := c.write(); err != nil {
			return fmt.Errorf("write the metadata: %w", err)
		}
	}
	return nil
}

const (
	// precommitted is where an area's header leads to a version that is not yet in force.
	precommitted = 64
	// longer is how much longer a text may become.
	longer = 1 << 10
)

// fixed is why no newer version may be written behind a copy.
func (c *written) fixed() string {
	switch {
	case le64(c.header[precommitted:]) != 0:
		return "a change of its metadata was begun and not finished"
	case !c.fits(int64(len(c.text)) + longer):
		return "there is no room for another version of its metadata"
	}
	return ""
}

// fits tells whether a text fits into the ring beside the one that is there.
func (c *written) fits(size int64) bool {
	ring, taken := c.area.size-areaHeader, c.next()-c.offset
	if taken <= 0 {
		taken += ring
	}
	return taken+size <= ring
}

// next is where the new text begins: in the sector behind the old one, or at the
// ring's beginning again.
func (c *written) next() int64 {
	at := (c.offset + int64(len(c.text)) + sector - 1) / sector * sector
	if at >= c.area.size {
		at -= c.area.size - areaHeader
	}
	return at
}

// copied is a copy of the group's metadata on one of its devices.
type copied struct {
	written
	device Device
	new    []byte // text
}

// readCopies reads all that there are, which must be of one version, and on all
// members of the group.
func readCopies(devices []Device, g Growth) (all []copied, err error) {
	var members []string
	for _, d := range devices {
		m, areas, err := readLabel(d, d.Size())
		if err != nil {
			return nil, err
		}
		members = append(members, m.UUID)
		for _, a := range areas {
			c, err := readCopy(d, d.Size(), a)
			if err != nil {
				return nil, err
			}
			if c == nil {
				continue
			}
			if why := c.fixed(); why != "" {
				return nil, fmt.Errorf("%w: %s", ErrMetadata, why)
			}
			all = append(all, copied{*c, d, nil})
		}
	}
	slices.Sort(members)
	for _, c := range all {
		of := func(p Physical, id string) bool { return p.UUID == id }
		switch {
		case c.group.UUID != g.Group || !slices.EqualFunc(c.group.Members, members, of):
			return nil, fmt.Errorf("%w: it has other physical volumes", ErrChanged)
		case c.group.Seq != all[0].group.Seq:
			return nil, fmt.Errorf("%w: its copies on the disks are of different age", ErrMetadata)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: it is kept nowhere", ErrMetadata)
	}
	return all, nil
}

// grow makes the new text of a copy, and holds it to the plan.
func (c *copied) grow(g Growth) (err error) {
	if c.group.Fixed != "" || !c.group.fits(g) {
		return ErrChanged
	}
	if c.new, err = grown(c.text, g); err != nil {
		return err
	}
	now, err := parseGroup(c.new)
	if err != nil {
		return fmt.Errorf("its new text: %w", err)
	}
	if !c.group.becomes(*now, g) {
		return fmt.Errorf("%w: its new text describes another group than was planned", ErrMetadata)
	}
	if !c.written.fits(int64(len(c.new))) {
		return fmt.Errorf("%w: its new text has %d bytes, and its old one %d", ErrMetadata, len(c.new), len(c.text))
	}
	return nil
}

// fits tells whether the group has what is to grow, and room for it.
func (g *Group) fits(growth Growth) bool {
	i := slices.IndexFunc(g.Members, func(p Physical) bool { return p.UUID == growth.Member })
	if i < 0 || g.Members[i].Extents != growth.From || growth.Extents < growth.From {
		return false
	}
	p := g.Members[i]
	if growth.Extents > maxExtents || p.Start > growth.Size || growth.Extents > (growth.Size-p.Start)/g.Extent {
		return false
	}
	if growth.Volume == "" {
		return true
	}
	j := slices.IndexFunc(g.Volumes, func(v Volume) bool { return v.UUID == growth.Volume })
	if j < 0 || g.Volumes[j].Tail.Member == "" || p.Closed || growth.Count < 1 || growth.At+growth.Count > growth.Extents {
		return false
	}
	tail := g.Volumes[j].Tail
	behind := tail.Member == p.UUID && growth.At == tail.Extent && (growth.At+growth.Count <= tail.Extent+tail.Room || tail.Extent+tail.Room == growth.From)
	return behind || growth.At >= growth.From && !tail.Contiguous
}

// becomes tells whether another version of the group is this one, grown as planned.
func (g *Group) becomes(now Group, growth Growth) bool {
	want := *g
	want.Seq++
	want.Members = slices.Clone(g.Members)
	for i := range want.Members {
		if p := &want.Members[i]; p.UUID == growth.Member {
			p.Free += growth.Extents - growth.From - growth.Count
			p.Extents = growth.Extents
		}
	}
	if now.Name != want.Name || now.UUID != want.UUID || now.Seq != want.Seq || now.Extent != want.Extent || now.Fixed != "" || !slices.Equal(now.Members, want.Members) {
		return false
	}
	return slices.EqualFunc(g.Volumes, now.Volumes, func(was, is Volume) bool {
		more := int64(0)
		if was.UUID == growth.Volume {
			more = growth.Count * g.Extent
		}
		return is.Name == was.Name && is.UUID == was.UUID && is.Problem == was.Problem && is.Fixed == was.Fixed && is.Size == was.Size+more
	})
}

// write writes the text, and then the header that leads to it.
func (c *copied) write() error {
	at, le := c.next(), binary.LittleEndian
	first := min(int64(len(c.new)), c.area.size-at)
	if _, err := c.device.WriteAt(c.new[:first], c.area.start+at); err != nil {
		return err
	}
	if _, err := c.device.WriteAt(c.new[first:], c.area.start+areaHeader); err != nil {
		return err
	}
	h := bytes.Clone(c.header)
	le.PutUint64(h[40:], uint64(at))
	le.PutUint64(h[48:], uint64(len(c.new)))
	le.PutUint32(h[56:], sum(c.new))
	le.PutUint32(h, sum(h[4:]))
	_, err := c.device.WriteAt(h, c.area.start)
	return err
}
