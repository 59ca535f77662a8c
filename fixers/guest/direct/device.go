package direct

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/disk/loop"
)

// device is a block device of this kernel's that shows a part of a guest's disks:
// a loop device, or what device-mapper makes of several.
type device interface {
	Node() string   // its path
	Number() string // major:minor
	// Detach writes it through and lets go of it. It returns when the kernel has
	// let go of the disks.
	Detach() error
}

// attach makes a device of what a file system lies on.
func (g *engine) attach(f guest.Filesystem) (device, error) {
	if f.Type == "btrfs" {
		return g.attachBtrfs(f)
	}
	return g.attachAny(f)
}

func (g *engine) attachAny(f guest.Filesystem) (device, error) {
	if v, ok := g.volume(f.Device); ok {
		return g.attachVolume(v)
	}
	disk, start := g.extent(f.Device)
	return loop.Attach(disk, start, f.Size)
}

func (g *engine) attachVolume(v guest.Volume) (device, error) {
	if v.Unsupported != "" {
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, v.Unsupported)
	}
	if m, ok := g.openedVolume(v.Name); ok {
		return lent{m}, nil
	}
	if disk, start, ok := g.onePiece(v); ok {
		return loop.Attach(disk, start, v.Size)
	}
	return g.attachPieces(v)
}

// attachPieces makes a device of a volume that lies in several pieces or copies.
func (g *engine) attachPieces(v guest.Volume) (_ device, err error) {
	control, err := openMapper()
	if err != nil {
		return nil, fmt.Errorf("%w: it lies in several pieces, and device-mapper does not work here: %w", ErrUnsupported, err)
	}
	m := &mapped{control: control}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Detach())
		}
	}()
	under := map[string]span{}
	for device, s := range spansOf(v) {
		d, s, err := g.attachSpan(device, s)
		if err != nil {
			return nil, err
		}
		m.under = append(m.under, d)
		s.number = d.Number()
		under[device] = s
	}
	if err := m.make(tableOf(v, under)); err != nil {
		return nil, fmt.Errorf("%w: device-mapper refuses it: %w", ErrUnsupported, err)
	}
	return m, nil
}

// attachSpan makes a device of a part of a disk or a partition, or of all of another
// volume, and says of which bytes.
func (g *engine) attachSpan(name string, s span) (device, span, error) {
	if v, ok := g.volume(name); ok {
		d, err := g.attachVolume(v)
		return d, span{end: v.Size}, err
	}
	disk, start := g.extent(name)
	l, err := loop.Attach(disk, start+s.start, s.end-s.start)
	return l, s, err
}

// span is the part of a disk or a partition that a volume lies on, in bytes, and
// the number of the device there. It leaves out the label of a physical volume and
// the superblock of an array's member: rules of udev's, which this machine may have,
// give to LVM and to md what shows one.
//
// Source: LVM2 udev/69-dm-lvm.rules; mdadm udev-md-raid-assembly.rules.
type span struct {
	start, end int64
	number     string // major:minor
}

// spansOf are the spans of a volume, by device.
func spansOf(v guest.Volume) map[string]span {
	spans := map[string]span{}
	for _, s := range v.Segments {
		size := s.Size
		if s.Chunk > 0 {
			size /= int64(len(s.On))
		}
		for _, on := range s.On {
			found, ok := spans[on.Device]
			if !ok {
				found.start = on.Start
			}
			found.start = min(found.start, on.Start)
			found.end = max(found.end, on.Start+size)
			spans[on.Device] = found
		}
	}
	return spans
}

// target is one line of a table of device-mapper's.
type target struct {
	start, size int64 // sectors
	kind        string
	params      string
}

// sector is device-mapper's unit, whatever a disk has.
const sector = 512

// tableOf says in device-mapper's words where a volume lies.
//
// Source: Linux Documentation/admin-guide/device-mapper, linear.rst, striped.rst.
func tableOf(v guest.Volume, under map[string]span) (table []target) {
	at := int64(0)
	for _, s := range v.Segments {
		var places []string
		for _, on := range s.On {
			places = append(places, fmt.Sprintf("%s %d", under[on.Device].number, (on.Start-under[on.Device].start)/sector))
		}
		t := target{start: at / sector, size: s.Size / sector, kind: "linear", params: places[0]}
		switch list := strings.Join(places, " "); {
		case s.Copies:
			t.kind, t.params = mirror, fmt.Sprintf("core 2 %d nosync %d %s", region(t.size), len(places), list)
		case s.Chunk > 0:
			t.kind, t.params = "striped", fmt.Sprintf("%d %d %s", len(places), s.Chunk/sector, list)
		}
		table = append(table, t)
		at += s.Size
	}
	return table
}

// mirror is device-mapper's word for what writes to every device, and reads from
// the first. nosync: what is there is in step, or the guest's own md will see to it;
// nothing is to be copied. Its log is in memory.
//
// Source: Linux drivers/md/dm-raid1.c, mirror_ctr; dm-log.c, core_ctr.
const mirror = "mirror"

// region is the unit in which a mirror keeps its log: a power of 2, and no larger
// than the device.
func region(sectors int64) int64 {
	unit := int64(2048)
	for unit > sectors {
		unit /= 2
	}
	return unit
}

// openMapper opens the way to the kernel's device-mapper, and removes what agents
// that were killed may have left there.
func openMapper() (*os.File, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := sweepMapped(control); err != nil {
		return nil, errors.Join(err, control.Close())
	}
	return control, nil
}
