package guest

import (
	"errors"
	"io"
	"slices"

	"hyper2kvm/fixers/guest/md"
)

// ArrayMember is blkid's name of a member of Linux's software RAID.
const ArrayMember = "linux_raid_member"

// Array is what a volume is that is an array of Linux's software RAID.
type Array struct {
	Kind    string `json:"kind"`    // linear, raid0, raid1 …
	Version string `json:"version"` // of its superblocks: 0.90, 1.0, 1.1, 1.2
	// Name is what its superblocks call it, with the host that made it in front of a
	// colon; "" in version 0.90, which knows a number instead.
	Name  string `json:"name,omitempty"`
	Minor int    `json:"minor"` // of /dev/mdN, by version 0.90; else -1
	// Lacks is how many members are missing, and Stale are the devices of those that
	// fell out: what is on them is old.
	Lacks int      `json:"lacks,omitempty"`
	Stale []string `json:"stale,omitempty"`
	Dirty bool     `json:"dirty,omitempty"` // it was not shut down: the guest brings its members in step
}

func (r *volumeReader) readArray(f Filesystem) error {
	m, err := md.Read(r.read(f.Device), f.Size)
	if errors.Is(err, md.ErrSuperblock) {
		r.problem(f.Device, err)
		return nil
	}
	r.members = append(r.members, md.Device{On: f.Device, Member: m})
	return err
}

// arrays are the volumes that the members of arrays make.
func (r *volumeReader) arrays() []Volume {
	var all []Volume
	for _, a := range md.Assemble(r.members) {
		v := Volume{Name: "md/" + a.Label(), UUID: a.UUID, Size: a.Size, On: a.On, Problem: a.Problem, Unsupported: a.Unmapped,
			Array: &Array{Kind: a.Kind, Version: a.Version, Name: a.Name, Minor: a.Minor, Lacks: a.Lacks, Stale: a.Stale, Dirty: !a.InSync}}
		for _, s := range a.Segments {
			out := Segment{Size: s.Size, Chunk: s.Chunk, Copies: s.Copies}
			for _, p := range s.On {
				out.On = append(out.On, Place(p))
			}
			v.Segments = append(v.Segments, out)
		}
		all = append(all, v)
	}
	return all
}

// partitioned notes of an array that was opened, and holds nothing that is known,
// whether there is a partition table on it: its partitions are not opened.
func (r *volumeReader) partitioned(v *Volume) error {
	holds := func(f Filesystem) bool { return f.Device == v.Name }
	if v.Array == nil || v.Problem != "" || v.Unsupported != "" || slices.ContainsFunc(r.topology.Filesystems, holds) {
		return nil
	}
	d, err := readTable(r.read(v.Name), v.Size)
	if errors.Is(err, ErrTable) {
		return nil
	}
	if len(d.Partitions) > 0 {
		v.Problem, v.Segments = "it is partitioned", nil
	}
	return err
}

// withoutArrays takes the partition table from a disk that is a member of an array
// as a whole: that is the array's then, which begins where the disk does, and its
// partitions end in front of the superblock. One inside of a partition is the
// partition's, where version 0.90 does not tell them apart, or is old.
//
// Source: md(4), "MD SUPER BLOCK".
func (d Disk) withoutArrays(r io.ReaderAt) (Disk, error) {
	m, err := md.Read(r, d.Size)
	if errors.Is(err, md.ErrSuperblock) {
		return d, nil
	}
	over := func(p Partition) bool { return p.Start <= m.At && m.At < p.End() }
	if err != nil || m.Start > 0 || slices.ContainsFunc(d.Partitions, over) {
		return d, err
	}
	d.Table, d.ID, d.Partitions, d.Usable, d.Backup = "", "", nil, 0, 0
	return d, nil
}
