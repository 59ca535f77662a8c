package md

import (
	"cmp"
	"fmt"
	"slices"
)

// The layouts of RAID 0 whose members differ in size: from where the rest of the
// larger ones is shared, kernels from 3.14 on go on in another order than those
// before. Only superblocks written since say which.
//
// Source: Linux drivers/md/raid0.h; md(4), "RAID0".
const (
	noLayout  = 0
	original  = 1
	alternate = 2
)

// size is how many bytes an array has, by what its members say of all; 0 where
// that depends on each.
//
// Source: Linux drivers/md/raid1.c, raid5.c, raid10.c, …_size.
func (s shape) size() int64 {
	rounded, disks := s.Size, int64(s.Disks)
	if s.Chunk > 0 {
		rounded = s.Size / s.Chunk * s.Chunk
	}
	switch s.Level {
	case 1:
		return s.Size
	case 4, 5:
		return bounded(rounded, disks-1)
	case 6:
		return bounded(rounded, disks-2)
	case 10:
		if s.Chunk == 0 || s.near() == 0 || s.far() == 0 {
			return 0
		}
		return bounded(s.Size/s.Chunk/int64(s.far()), disks) / int64(s.near()) * s.Chunk
	}
	return 0
}

// bounded is a product that is a size, or 0.
func bounded(size, n int64) int64 {
	if n <= 0 || size > maxSize/n {
		return 0
	}
	return size * n
}

// lay says where the array's bytes lie, whose members are in order.
func (a *Array) lay(newest Device, in []Device) {
	switch newest.Level {
	case linear:
		a.join(newest.Chunk, in)
	case 0:
		a.stripe(newest.shape, in)
	case 1:
		a.copy(newest.shape, in)
	case 4, 5, 6, 10:
		a.Unmapped = fmt.Sprintf("it is a %s, which is left to md", a.Kind)
	default:
		a.Problem = fmt.Sprintf("an array of the kind %s", a.Kind)
	}
	sum := int64(0)
	for _, s := range a.Segments {
		sum += s.Size
	}
	if a.Unmapped == "" {
		a.Size = sum
	}
	if a.Problem == "" && (a.Size <= 0 || a.Size > maxSize) {
		a.Problem = fmt.Sprintf("an array of %d bytes", a.Size)
	}
}

// used is how much of a member is in the array, which counts whole chunks.
func used(d Device, chunk int64) int64 {
	if chunk == 0 {
		return d.Length
	}
	return d.Length / chunk * chunk
}

// join lays one member behind the other.
//
// Source: Linux drivers/md/md-linear.c, linear_conf.
func (a *Array) join(chunk int64, in []Device) {
	for _, d := range in {
		if n := used(d, chunk) / sector * sector; n > 0 {
			a.Segments = append(a.Segments, Segment{Size: n, On: []Place{{d.On, d.Start}}})
		}
	}
}

// copy lays the same on all members. Those that are not to be read from, since they
// are slow, come last. What md notes in a bitmap while a member is missing, so that
// it may come back, nobody else would.
func (a *Array) copy(s shape, in []Device) {
	if a.Lacks > 0 && in[0].Bitmap {
		a.Unmapped = "a member is missing, and what is written meanwhile must be noted in its bitmap, which is left to md"
		return
	}
	in = slices.Clone(in)
	slices.SortStableFunc(in, func(x, y Device) int { return cmp.Compare(order(x), order(y)) })
	seg := Segment{Size: s.Size / sector * sector, Copies: len(in) > 1}
	for _, d := range in {
		if d.Length < s.Size {
			a.Problem = fmt.Sprintf("%s is too small for it", d.On)
			return
		}
		seg.On = append(seg.On, Place{d.On, d.Start})
	}
	a.Segments = []Segment{seg}
}

func order(d Device) int {
	if d.Slow {
		return 1
	}
	return 0
}

// stripe lays a chunk on each member in turn, and where the smaller ones are full
// goes on with the others.
//
// Source: Linux drivers/md/raid0.c, create_strip_zones, raid0_map_bio.
func (a *Array) stripe(s shape, in []Device) {
	if s.Chunk < sector || s.Chunk%sector != 0 {
		a.Problem = fmt.Sprintf("stripes of %d bytes", s.Chunk)
		return
	}
	for full, at := int64(0), int64(0); ; {
		in = slices.DeleteFunc(slices.Clone(in), func(d Device) bool { return used(d, s.Chunk) <= full })
		if len(in) == 0 {
			return
		}
		if len(a.Segments) > 0 && s.Layout != original && s.Layout != alternate {
			a.Problem = "its members differ in size, and its superblock does not say which of two layouts it has"
			return
		}
		next := used(slices.MinFunc(in, func(x, y Device) int { return cmp.Compare(used(x, s.Chunk), used(y, s.Chunk)) }), s.Chunk)
		n := int64(len(in))
		seg := Segment{Size: bounded(next-full, n)}
		if n > 1 {
			seg.Chunk = s.Chunk
		}
		first := int64(0)
		if s.Layout == original {
			first = at / s.Chunk % n
		}
		for i := range n {
			d := in[(first+i)%n]
			seg.On = append(seg.On, Place{d.On, d.Start + full})
		}
		a.Segments = append(a.Segments, seg)
		full, at = next, at+seg.Size
	}
}
