package md

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// rolesAt is where the list of roles begins in a superblock of version 1.
const rolesAt = 256

// Features of version 1.
const (
	hasBitmap      = 1
	isRecovering   = 2
	isReshaping    = 4
	hasBadBlocks   = 8
	isReplacement  = 16
	newOffset      = 64
	recoveryBitmap = 128
	isClustered    = 256
	hasJournal     = 512
	hasPPL         = 1024
	manyPPLs       = 2048
	hasLayout      = 4096 // of RAID 0
	knownFeatures  = 2*hasLayout - 1
)

// features are what an array with one of them suffers from. A problem keeps every
// engine away; what is unmapped is left to md itself.
var features = []struct {
	bit      uint32
	problem  string
	unmapped string
}{
	{isReshaping | newOffset, "it is being reshaped: let that finish in the guest", ""},
	{isReplacement, "one of its members is being replaced: let that finish in the guest", ""},
	{isRecovering | recoveryBitmap, "one of its members is being rebuilt: let that finish in the guest", ""},
	{isClustered, "it is shared by the machines of a cluster", ""},
	{hasJournal, "", "it has a write journal"},
	{hasPPL | manyPPLs, "", "it has a partial parity log"},
	{hasBadBlocks, "", "it has a list of bad blocks"},
	{^uint32(knownFeatures), "", "its superblock has features that are not known"},
}

// parse1 reads a superblock of version 1 that lies at a byte of a device.
//
// Source: md_p.h, struct mdp_superblock_1.
func parse1(b []byte, at, size int64) (Member, error) {
	le := binary.LittleEndian
	count := le.Uint32(b[220:])
	if count > maxDisks {
		return Member{}, fmt.Errorf("%w: %d roles", ErrSuperblock, count)
	}
	if sum1(b, count) != le.Uint32(b[216:]) {
		return Member{}, fmt.Errorf("%w: wrong checksum", ErrSuperblock)
	}
	if bytesOf(le.Uint64(b[144:])) != at {
		return Member{}, fmt.Errorf("%w: it belongs elsewhere", ErrSuperblock)
	}
	m := Member{
		Array: uuid(b[16:]), UUID: uuid(b[168:]), Name: text(b[32:64]), Minor: -1,
		Number: int(le.Uint32(b[160:]) & 0xffff), Roles: roles(b[rolesAt:], count),
		shape: shape{
			Level: int(int32(le.Uint32(b[72:]))), Layout: int(int32(le.Uint32(b[76:]))),
			Chunk: int64(le.Uint32(b[88:])) * sector, Disks: int(le.Uint32(b[92:]) & 0xffff),
			Size: bytesOf(le.Uint64(b[80:])),
		},
		Events: le.Uint64(b[200:]), Created: int64(le.Uint64(b[64:]) & (1<<40 - 1)),
		Start: bytesOf(le.Uint64(b[128:])), Length: bytesOf(le.Uint64(b[136:])),
		InSync: le.Uint64(b[208:]) == ^uint64(0), Slow: b[184]&1 != 0,
	}
	set := le.Uint32(b[8:])
	m.Bitmap = set&hasBitmap != 0 && set&(hasPPL|manyPPLs) == 0
	for _, f := range features {
		if set&f.bit != 0 && m.problem == "" && m.unmapped == "" {
			m.problem, m.unmapped = f.problem, f.unmapped
		}
	}
	if m.Level == 0 && set&hasLayout == 0 {
		m.Layout = noLayout
	}
	return checked(m, at, size)
}

func roles(b []byte, count uint32) []Role {
	all := make([]Role, count)
	for i := range all {
		switch n := binary.LittleEndian.Uint16(b[2*i:]); n {
		case 0xffff:
			all[i] = Spare
		case 0xfffe:
			all[i] = Faulty
		case 0xfffd:
			all[i] = Journal
		default:
			all[i] = Role(n)
		}
	}
	return all
}

// sum1 adds up the words of a superblock without its checksum.
//
// Source: Linux drivers/md/md.c, calc_sb_1_csum.
func sum1(b []byte, count uint32) uint32 {
	sum := uint64(0)
	end := rolesAt + 2*int(count)
	for i := 0; i+4 <= end; i += 4 {
		if i != 216 {
			sum += uint64(binary.LittleEndian.Uint32(b[i:]))
		}
	}
	if end%4 == 2 {
		sum += uint64(binary.LittleEndian.Uint16(b[end-2:]))
	}
	return uint32(sum) + uint32(sum>>32)
}

// text is a name of fixed length.
func text(b []byte) string {
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}
