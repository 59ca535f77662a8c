package md

import (
	"encoding/binary"
	"fmt"
)

// The words of a superblock of version 0.90, and the most devices that it knows.
//
// Source: md_p.h, struct mdp_superblock_s; a guest's are little-endian.
const (
	words0     = superSize / 4
	disks0     = 27
	wordsADisk = 32
	firstDisk  = 128
	thisDisk   = 992
)

// The states of an array and of a device in version 0.90, as bits.
const (
	isClean   = 1 << 0
	withMap   = 1 << 8
	isFaulty  = 1 << 0
	isActive  = 1 << 1
	isSynced  = 1 << 2
	mostWrite = 1 << 9
)

// reshaped is the minor version of an array that is being reshaped.
const reshaped = 91

func parse0(b []byte, at, size int64) (Member, error) {
	w := make([]uint32, words0)
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	if fold(sum0(w)) != fold(w[38]) {
		return Member{}, fmt.Errorf("%w: wrong checksum", ErrSuperblock)
	}
	if w[2] != 90 && w[2] != reshaped {
		return Member{}, fmt.Errorf("%w: version 0.%d", ErrSuperblock, w[2])
	}
	id := make([]byte, 16)
	for i, word := range []uint32{w[5], w[13], w[14], w[15]} {
		binary.BigEndian.PutUint32(id[4*i:], word)
	}
	m := Member{
		Array: uuid(id), Minor: int(w[11]), Number: int(w[thisDisk]), Roles: roles0(w),
		shape: shape{
			Level: int(int32(w[7])), Layout: int(int32(w[64])), Chunk: int64(w[65]),
			Disks: int(w[10]), Size: int64(w[8]) << 10,
		},
		Events: uint64(w[40])<<32 | uint64(w[39]), Created: int64(w[6]),
		Length: at, InSync: w[33]&isClean != 0, Bitmap: w[33]&withMap != 0,
		Slow: w[thisDisk+4]&mostWrite != 0,
	}
	if w[2] == reshaped {
		m.problem = features[0].problem
	}
	if m.Level == 0 {
		m.Layout = noLayout
	}
	if m.Disks > disks0 {
		return m, fmt.Errorf("%w: an array of %d devices", ErrSuperblock, m.Disks)
	}
	return checked(m, at, size)
}

// roles0 reads the list of all devices. One that is active and not in sync has no
// place yet.
func roles0(w []uint32) []Role {
	all := make([]Role, disks0)
	for i := range all {
		d := w[firstDisk+i*wordsADisk:]
		switch state := d[4]; {
		case state&isFaulty != 0:
			all[i] = Faulty
		case state&(isActive|isSynced) == isActive|isSynced && d[3] < disks0:
			all[i] = Role(d[3])
		default:
			all[i] = Spare
		}
	}
	return all
}

// sum0 adds up the words but the checksum. What old kernels made of the carry
// differs, and is equal when it is folded.
//
// Source: Linux drivers/md/md.c, calc_sb_csum, md_csum_fold.
func sum0(w []uint32) uint32 {
	sum := uint64(0)
	for i, word := range w {
		if i != 38 {
			sum += uint64(word)
		}
	}
	return uint32(sum) + uint32(sum>>32)
}

func fold(sum uint32) uint32 {
	sum = sum&0xffff + sum>>16
	return sum&0xffff + sum>>16
}
