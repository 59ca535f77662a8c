package guest

import (
	"cmp"
	"fmt"
	"slices"
)

// Resize is how a disk that was made larger is put to use: its last partition
// grows to the new end, and the file system on it. It is planned from the
// topology, touching nothing, and done by Guest.Grow.
type Resize struct {
	Disk string `json:"disk"`         // disk0
	ID   string `json:"id,omitempty"` // of its partition table
	From int64  `json:"from"`         // bytes of the disk as the source has it
	To   int64  `json:"to"`           // bytes of the disk
	// Backup: GPT's second copy goes to the disk's new end.
	Backup bool `json:"backup,omitempty"`
	// Partitions that grow: one, or an extended one and the last one in it.
	Partitions []GrownPartition `json:"partitions,omitempty"`
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
	return r.From == r.To && r.tableStays() && r.Filesystem == nil
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

// PlanResize works out how a disk of the topology, which had from bytes, is put
// to use. A file system grows only if a check has found it whole.
func (t Topology) PlanResize(disk string, from int64, checked []Health) Resize {
	i := slices.IndexFunc(t.Disks, func(d Disk) bool { return d.Name == disk })
	if i < 0 {
		return Resize{Disk: disk, From: from, To: from}
	}
	d := t.Disks[i]
	r := Resize{Disk: disk, ID: d.ID, From: from, To: d.Size, Backup: d.Backup != 0 && d.Backup != d.Size-sector}
	parts, why := d.last()
	if why != "" {
		r.Unused, r.Try = why, "partition the rest in the guest"
		return r
	}
	f := t.on(d, parts)
	u := useOf(f, d.Size, checked)
	r.Unused, r.Try = u.unused, u.try
	if u.partition {
		r.fill(d, parts, f, u.filesystem)
	}
	return r
}

// fill has partitions grow to the disk's end, and a file system with them.
func (r *Resize) fill(d Disk, parts []Partition, f Filesystem, grows bool) {
	if d.Table == "mbr" && d.Size > mbrEnd && r.Unused == "" {
		r.Unused, r.Try = "what lies behind 2 TiB cannot be named by its partition table, an MBR", "change the table to GPT in the guest (sgdisk --mbrtogpt), and grow the rest there"
	}
	end, device := d.end(), f.Size
	for _, p := range parts {
		if end > p.End() {
			r.Partitions = append(r.Partitions, GrownPartition{p.Name, p.Number, p.UUID, p.End(), end})
			device = end - p.Start
		}
	}
	if grows && (device > f.Size || device-f.Span >= slack) {
		r.Filesystem = &GrownFilesystem{f.Device, f.Type, f.UUID, f.Span, device}
	} else if r.Unused == "" {
		r.Unused = fmt.Sprintf("the space behind %s is too little", f.Device)
	}
}

// Last is the file system at the end of a disk, if it is of a kind that grows.
func (t Topology) Last(disk string) (Filesystem, bool) {
	for _, d := range t.Disks {
		if d.Name == disk {
			parts, why := d.last()
			f := t.on(d, parts)
			return f, why == "" && spans[f.Type] != nil
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

// use is what grows with a disk, and why not all does.
type use struct {
	partition, filesystem bool
	unused, try           string
}

// useOf decides by what is at the end of the disk. The partition of what does not
// grow with it grows only where nothing is kept at its end, as software RAID and
// NTFS do.
func useOf(f Filesystem, size int64, checked []Health) use {
	switch f.Type {
	case "ext2", "ext3", "ext4", "xfs":
		return useOfFilesystem(f, size, checked)
	case LVMMember:
		return use{true, false, f.Device + " is a physical volume of LVM, and which of its logical volumes is to grow is the guest's affair", "in the guest: pvresize, then lvextend --resizefs"}
	case "crypto_LUKS":
		return use{true, false, f.Device + " is encrypted", "in the guest: cryptsetup resize, then grow what is inside"}
	case "btrfs":
		return use{true, false, f.Device + " is btrfs, which grows while it is mounted", "in the guest: btrfs filesystem resize max FOLDER"}
	case "swap":
		return use{false, false, f.Device + " is swap space, which nothing in front of it can grow over", "in the guest: swapoff, remove that partition, grow the one in front of it and its file system, and make a swap file"}
	case "ntfs":
		return use{false, false, f.Device + " is NTFS, which Windows itself is to grow", "in Windows: Extend Volume, in the Disk Management"}
	case "":
		return use{false, false, "what is on " + f.Device + " is not known", "partition the rest in the guest"}
	}
	return use{false, false, fmt.Sprintf("%s is %s, which is not grown", f.Device, f.Type), "partition the rest in the guest"}
}

func useOfFilesystem(f Filesystem, size int64, checked []Health) use {
	i := slices.IndexFunc(checked, func(h Health) bool { return h.Device == f.Device })
	switch {
	case i < 0:
		return use{false, false, "the file system on " + f.Device + " was not checked", "grow the partition and its file system in the guest"}
	case checked[i].State != Clean:
		return use{false, false, fmt.Sprintf("the file system on %s is %s: %s", f.Device, checked[i].State, checked[i].Text), "run fsck in the guest and migrate again, or grow it there"}
	case f.Type != "xfs" && size > extEnd:
		return use{false, false, fmt.Sprintf("%s on %s is not grown beyond 16 TiB", f.Type, f.Device), "grow the partition and its file system in the guest"}
	}
	return use{partition: true, filesystem: true}
}
