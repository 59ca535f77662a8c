package guest

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ReadSpans notes of each file system how much of its device it spans. Both
// engines use it, once what lies on the disks is known and after it has grown.
// open reads a device of the topology.
func (t *Topology) ReadSpans(open func(device string) io.ReaderAt) error {
	for i := range t.Filesystems {
		f := &t.Filesystems[i]
		read, ok := spans[f.Type]
		if !ok {
			continue
		}
		head := make([]byte, max(0, min(SuperblockSize, f.Size-read.at)))
		if _, err := open(f.Device).ReadAt(head, read.at); err != nil {
			return fmt.Errorf("%s: superblock: %w", f.Device, err)
		}
		f.Span = read.span(head)
	}
	return nil
}

// SuperblockSize is how much of a device is read to find its superblock.
const SuperblockSize = 4 << 10

// Superblock is where the superblock of a file system that grows is looked for.
func Superblock(fstype string) int64 { return spans[fstype].at }

// spans are how to read the bytes that a file system spans: from what is at an offset
// of its device; 0 if that does not say.
var spans = map[string]struct {
	at   int64
	span func(head []byte) int64
}{"ext2": {0, extSpan}, "ext3": {0, extSpan}, "ext4": {0, extSpan}, "xfs": {0, xfsSpan}, "btrfs": {64 << 10, btrfsSpan}}

// extSpan counts blocks: 32 bits of them, and 32 more where a feature says so.
//
// Source: Linux fs/ext4/ext4.h, ext4_super_block, EXT4_FEATURE_INCOMPAT_64BIT.
func extSpan(head []byte) int64 {
	const at, has64bit, largest = 1024, 0x80, 6
	if len(head) < at+1024 {
		return 0
	}
	s, le := head[at:], binary.LittleEndian
	blocks, size := uint64(le.Uint32(s[4:])), le.Uint32(s[24:])
	if le.Uint32(s[96:])&has64bit != 0 {
		blocks |= uint64(le.Uint32(s[336:])) << 32
	}
	if le.Uint16(s[56:]) != 0xef53 || size > largest {
		return 0
	}
	return spanned(blocks, 1024<<size)
}

// Source: Linux fs/xfs/libxfs/xfs_format.h, xfs_dsb.
func xfsSpan(head []byte) int64 {
	be := binary.BigEndian
	if len(head) < sector || string(head[:4]) != "XFSB" {
		return 0
	}
	return spanned(be.Uint64(head[8:]), uint64(be.Uint32(head[4:])))
}

// btrfsSpan is what a btrfs takes of its only device; of several, each has a part.
//
// Source: Linux include/uapi/linux/btrfs_tree.h, btrfs_super_block, btrfs_dev_item.
func btrfsSpan(head []byte) int64 {
	const magic, devices, total = 64, 136, 201 + 8
	le := binary.LittleEndian
	if len(head) < sector || string(head[magic:magic+8]) != "_BHRfS_M" || le.Uint64(head[devices:]) != 1 {
		return 0
	}
	return spanned(le.Uint64(head[total:]), 1)
}

// spanned is blocks of a size in bytes, or 0 where no disk has so many.
func spanned(blocks, size uint64) int64 {
	if size == 0 || blocks > 1<<62/size {
		return 0
	}
	return int64(blocks * size)
}
