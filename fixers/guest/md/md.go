// Package md reads what Linux's software RAID keeps on a member of an array, and
// puts together from several members what the array is: where its bytes lie, and
// why it should not be touched if it should not. Nothing is assembled. The reader
// is bounded, since the disks are a guest's, and every engine uses it, so that
// they name arrays alike.
//
// Member: one device of an array, by its superblock. Role: its place in the
// array. Array: what the members make together.
//
// Source: Linux include/uapi/linux/raid/md_p.h; drivers/md/md.c.
package md

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrSuperblock is a device that md would not take for a member.
var ErrSuperblock = errors.New("invalid md superblock")

// Member is one device of an array, as its superblock has it.
type Member struct {
	Version string // of the superblock: 0.90, 1.0, 1.1, 1.2
	Array   string // UUID of the array, as mdadm prints it
	At      int64  // where the superblock lies, bytes
	UUID    string // of the device; "" in version 0.90
	// Name is the array's, with the host that made it in front of a colon; "" in
	// version 0.90, which knows the number of the array's device instead.
	Name   string
	Minor  int // that number; -1 in other versions
	Number int // the device's among all that were ever in the array: place in Roles
	// Roles are what every device of the array does, as this one last heard.
	Roles []Role
	shape
	Events   uint64 // grows with each change of the array's state
	Created  int64  // seconds
	Start    int64  // of the data, bytes
	Length   int64  // of the data, bytes
	InSync   bool   // all of the array's bytes are in step; else a resync is due
	Bitmap   bool   // what is written is noted in a bitmap
	Slow     bool   // write-mostly: not to be read from
	problem  string // why the array is to be left alone, by this superblock
	unmapped string // why nothing but md itself follows where its bytes lie
}

// shape is what makes an array.
type shape struct {
	Level  int
	Layout int
	Chunk  int64 // bytes; 0 where the level has none
	Disks  int   // that the array has when it is whole
	Size   int64 // bytes that it uses of each, where it uses the same of all
}

// Role is a device's place in the array, from 0, or one of those below.
type Role int

// Roles of devices that have no place.
const (
	Spare   Role = -1
	Faulty  Role = -2
	Journal Role = -3
)

// Levels by md's numbers.
const (
	linear    = -1
	multipath = -4
	faulty    = -5
)

const (
	magic  = 0xa92b4efc
	sector = 512
	// maxSize bounds sizes and offsets, in bytes: no disk is as large.
	maxSize = 1 << 60
	// maxDisks is how many devices an array has at most: their roles fit into 4 KiB
	// together with what is in front of them.
	maxDisks = (superSize - rolesAt) / 2
	// superSize is the most that a superblock takes, in any version.
	superSize = 4096
)

// Read reads the superblock of a device of size bytes. Where there are several,
// which an array made anew over an old one leaves, the youngest counts, as with
// mdadm.
//
// Source: mdadm super0.c, super1.c, util.c, guess_super_type.
func Read(r io.ReaderAt, size int64) (Member, error) {
	best := Member{}
	why := fmt.Errorf("%w: none of a known version", ErrSuperblock)
	for _, v := range versions {
		at := v.at(size)
		if at < 0 || at > size-superSize {
			continue
		}
		block := make([]byte, superSize)
		if _, err := r.ReadAt(block, at); err != nil {
			return Member{}, fmt.Errorf("superblock: %w", err)
		}
		if binary.LittleEndian.Uint32(block) != magic || binary.LittleEndian.Uint32(block[4:]) != v.major {
			continue
		}
		m, err := v.parse(block, at, size)
		if err != nil {
			why = err
			continue
		}
		m.At = at
		if m.Version = v.name; best.Version == "" || m.Created > best.Created {
			best = m
		}
	}
	if best.Version == "" {
		return Member{}, why
	}
	return best, nil
}

// versions are the superblocks by where they lie.
//
// Source: md(4), "MD SUPER BLOCK"; Linux drivers/md/md.c, super_1_load.
var versions = []struct {
	name  string
	major uint32
	at    func(size int64) int64
	parse func(block []byte, at, size int64) (Member, error)
}{
	{"0.90", 0, func(size int64) int64 { return size&^(64<<10-1) - 64<<10 }, parse0},
	{"1.0", 1, func(size int64) int64 { return (size/sector - 16) &^ 7 * sector }, parse1},
	{"1.1", 1, func(int64) int64 { return 0 }, parse1},
	{"1.2", 1, func(int64) int64 { return 4096 }, parse1},
}

// checked holds a member to what every version promises.
func checked(m Member, at, size int64) (Member, error) {
	switch {
	case m.Disks < 1 || m.Disks > maxDisks || len(m.Roles) > maxDisks:
		return m, fmt.Errorf("%w: an array of %d devices", ErrSuperblock, m.Disks)
	case m.Number < 0 || m.Number >= len(m.Roles):
		return m, fmt.Errorf("%w: device %d of %d", ErrSuperblock, m.Number, len(m.Roles))
	case m.Start < 0 || m.Length < 0 || m.Start > size || m.Length > size-m.Start:
		return m, fmt.Errorf("%w: %d bytes of data at %d of a device of %d", ErrSuperblock, m.Length, m.Start, size)
	case m.Start < at+superSize && at < m.Start+m.Length:
		return m, fmt.Errorf("%w: the data lie over it", ErrSuperblock)
	case m.Chunk < 0 || m.Chunk > maxSize || m.Size < 0 || m.Size > maxSize:
		return m, fmt.Errorf("%w: %d bytes in chunks of %d", ErrSuperblock, m.Size, m.Chunk)
	}
	return m, nil
}

// bytesOf is so many sectors in bytes; -1 where no disk has so many.
func bytesOf(sectors uint64) int64 {
	if sectors > maxSize/sector {
		return -1
	}
	return int64(sectors * sector)
}

// uuid is an array's, as mdadm prints it: four words.
func uuid(id []byte) string { return fmt.Sprintf("%x:%x:%x:%x", id[:4], id[4:8], id[8:12], id[12:16]) }
