package guest

import (
	"cmp"
	"fmt"
	"slices"
)

// Resize is how a disk that was made larger is put to use: its last partition
// grows to the new end, and the file system on it, or the physical volume of LVM's
// and a logical one with its file system. It is planned from the topology, touching
// nothing, and done by Guest.Grow.
type Resize struct {
	Disk string `json:"disk"`         // disk0
	ID   string `json:"id,omitempty"` // of its partition table
	From int64  `json:"from"`         // bytes of the disk as the source has it
	To   int64  `json:"to"`           // bytes of the disk
	// Backup: GPT's second copy goes to the disk's new end.
	Backup bool `json:"backup,omitempty"`
	// Partitions that grow: one, or an extended one and the last one in it.
	Partitions []GrownPartition `json:"partitions,omitempty"`
	Member     *GrownMember     `json:"member,omitempty"`
	Volume     *GrownVolume     `json:"volume,omitempty"`
	Filesystem *GrownFilesystem `json:"filesystem,omitempty"`
	// Unused is why some of the new space is in no file system, and Try what the
	// operator can do about it.
	Unused string `json:"unused,omitempty"`
	Try    string `json:"try,omitempty"`
}

// GrownPartition is a partition whose end moves, in bytes from the disk's start.
type GrownPartition struct {
	Name   string `json:"name"` // disk0p1
	Number int    `json:"number"`
	UUID   string `json:"uuid"` // PARTUUID, which stays
	From   int64  `json:"from"` // its end as it is
	To     int64  `json:"to"`
}

// GrownMember is a physical volume of LVM's that grows with its device.
type GrownMember struct {
	Device    string `json:"device"`
	UUID      string `json:"uuid"`
	Group     string `json:"group"` // the volume group's name
	GroupUUID string `json:"group_uuid"`
	From      int64  `json:"from"` // extents that it has
	To        int64  `json:"to"`
	Size      int64  `json:"extent_size"` // bytes of each
}

// GrownVolume is a logical volume that grows by all extents that its group gains.
type GrownVolume struct {
	Name   string `json:"name"` // group/volume
	UUID   string `json:"uuid"`
	From   int64  `json:"from"` // bytes
	To     int64  `json:"to"`
	Extent int64  `json:"extent"` // the first of the extents that are added to it
	// Apart tells that they do not follow what it has: it lies in one piece more.
	Apart bool `json:"apart,omitempty"`
}

// GrownFilesystem is a file system that grows with its device.
type GrownFilesystem struct {
	Device string `json:"device"`
	Type   string `json:"type"`
	UUID   string `json:"uuid,omitempty"`
	From   int64  `json:"from"` // bytes that it spans
	To     int64  `json:"to"`   // bytes of its device, of which it may leave a few at the end
}

// Empty tells of a disk on which there is nothing to do.
func (r Resize) Empty() bool {
	return r.From == r.To && r.tableStays() && r.Member == nil && r.Filesystem == nil
}

// leave notes why space is not put to use, and what to try.
func (r *Resize) leave(why, try string) {
	if r.Unused != "" {
		why, try = r.Unused+"; "+why, r.Try+"; "+try
	}
	r.Unused, r.Try = why, try
}

// Enlarged is what is known of a disk that was made larger, and asked for.
type Enlarged struct {
	From    int64    // bytes of the disk as the source has it
	Checked []Health // a file system grows only if a check has found it whole
	Root    string   // the device of the guest's root file system
	Volume  string   // the logical volume that is to grow; "" leaves the choice
	Growing []string // logical volumes that grow with other disks
}

const (
	// alignment is what a partition's end is rounded down to.
	alignment = 1 << 20
	// slack is what a file system that fills its device may leave at its end: a
	// group or so that is too small for the tables which it would need.
	slack = 16 << 20
	// mbrEnd is where the last partition of an MBR ends at most: it counts
	// sectors with 32 bits.
	mbrEnd = 1 << 32 * sector
	// extEnd is where an ext without the feature 64bit ends, with the usual blocks.
	extEnd = 16 << 40
)

// End is the byte behind a partition's last.
func (p Partition) End() int64 { return p.Start + p.Size }

// PlanResize works out how a disk of the topology, which had fewer bytes, is put
// to use.
func (t Topology) PlanResize(disk string, e Enlarged) Resize {
	i := slices.IndexFunc(t.Disks, func(d Disk) bool { return d.Name == disk })
	if i < 0 {
		return Resize{Disk: disk, From: e.From, To: e.From}
	}
	d := t.Disks[i]
	r := Resize{Disk: disk, ID: d.ID, From: e.From, To: d.Size, Backup: d.Backup != 0 && d.Backup != d.Size-sector}
	parts, why := d.last()
	if why != "" {
		r.leave(why, "partition the rest in the guest")
		return r
	}
	f := t.on(d, parts)
	u := useOf(f, d.Size, e.Checked)
	if u.unused != "" {
		r.leave(u.unused, u.try)
	}
	if !u.partition {
		return r
	}
	device := r.fill(d, parts, f)
	switch {
	case f.Type == LVMMember:
		t.fillMember(&r, f, device, e)
	case u.filesystem && (device > f.Size || device-f.Span >= slack):
		r.Filesystem = &GrownFilesystem{f.Device, f.Type, f.UUID, f.Span, device}
	case r.Unused == "":
		r.Unused = fmt.Sprintf("the space behind %s is too little", f.Device)
	}
	return r
}

// fill has partitions grow to the disk's end, and tells how large the last of them is
// then, or the disk.
func (r *Resize) fill(d Disk, parts []Partition, f Filesystem) (device int64) {
	if d.Table == "mbr" && d.Size > mbrEnd && r.Unused == "" {
		r.leave("what lies behind 2 TiB cannot be named by its partition table, an MBR", "change the table to GPT in the guest (sgdisk --mbrtogpt), and grow the rest there")
	}
	end, device := d.end(), f.Size
	for _, p := range parts {
		if end > p.End() {
			r.Partitions = append(r.Partitions, GrownPartition{p.Name, p.Number, p.UUID, p.End(), end})
			device = end - p.Start
		}
	}
	return device
}

// Last is the file system that is to grow with a disk, if it is of a kind that does.
func (t Topology) Last(disk string, e Enlarged) (Filesystem, bool) {
	for _, d := range t.Disks {
		if d.Name == disk {
			parts, why := d.last()
			f := t.on(d, parts)
			if f.Type == LVMMember {
				f = t.lastVolume(f, e)
			}
			_, grows := spans[f.Type]
			return f, why == "" && grows
		}
	}
	return Filesystem{}, false
}

// last are the partitions that grow with a disk: the last one, after the extended
// one that it is in; none on a disk without partitions. why says that none can.
func (d Disk) last() (parts []Partition, why string) {
	byEnd := func(a, b Partition) int { return cmp.Compare(a.End(), b.End()) }
	primary := slices.DeleteFunc(slices.Clone(d.Partitions), d.isLogical)
	switch {
	case d.Table == "gpt" && d.Usable == 0:
		return nil, "its partition table is no plain GPT: it is mixed with an MBR, or has no second copy behind its partitions"
	case len(primary) == 0 && d.Table != "":
		return nil, "there is no partition on it"
	case len(primary) == 0:
		return nil, ""
	}
	last := slices.MaxFunc(primary, byEnd)
	if d.Table != "mbr" || !IsExtended(last.Type) {
		return []Partition{last}, ""
	}
	logical := slices.DeleteFunc(slices.Clone(d.Partitions), func(p Partition) bool { return !d.isLogical(p) || p.Start < last.Start })
	if len(logical) == 0 {
		return nil, fmt.Sprintf("its last partition, %s, is an extended one with nothing in it", last.Name)
	}
	inner := slices.MaxFunc(logical, byEnd)
	if inner.End() > last.End() {
		return nil, fmt.Sprintf("%s reaches over the end of the extended partition that it is in", inner.Name)
	}
	return []Partition{last, inner}, ""
}

// isLogical tells of a partition inside an extended one: an MBR has room for four.
func (d Disk) isLogical(p Partition) bool { return d.Table == "mbr" && p.Number > 4 }

// end is where a disk's last partition may end.
func (d Disk) end() int64 {
	end := d.Size
	switch d.Table {
	case "gpt":
		end = d.Usable + d.Size - sector - d.Backup // as far from the end as before
	case "mbr":
		end = min(end, mbrEnd-sector)
	}
	return end / alignment * alignment
}

// on is what the last of some partitions holds, or the disk itself.
func (t Topology) on(d Disk, parts []Partition) Filesystem {
	device, size := d.Name, d.Size
	if len(parts) > 0 {
		p := parts[len(parts)-1]
		device, size = p.Name, p.Size
	}
	for _, f := range t.Filesystems {
		if f.Device == device {
			return f
		}
	}
	return Filesystem{Device: device, Size: size}
}
