package guesttest

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
)

// Device is what a file system lies on, to be damaged while nobody uses it.
type Device interface {
	io.ReaderAt
	io.WriterAt
}

// DamageFAT frees all clusters in the first table; files still name them.
func DamageFAT(t testing.TB, d Device) {
	t.Helper()
	boot := readAt(t, d, 0, 512)
	table := int64(binary.LittleEndian.Uint16(boot[11:])) * int64(binary.LittleEndian.Uint16(boot[14:]))
	if _, err := d.WriteAt(make([]byte, 500), table+4); err != nil {
		t.Fatal(err)
	}
}

// DamageBtrfs makes the checksums of the UUID tree's blocks wrong, which no mount
// needs, on a device of BlankSize.
//
// Source: btrfs on-disk format, btrfs_header; BTRFS_UUID_TREE_OBJECTID.
func DamageBtrfs(t testing.TB, d Device) {
	t.Helper()
	const superblock, block, part, uuidTree = 64 << 10, 16 << 10, 1 << 20, 9
	head := readAt(t, d, superblock, 4096)
	found := 0
	for at := int64(part); at < BlankSize; at += part {
		data := readAt(t, d, at, part)
		for i := 0; i < part; i += block {
			if !bytes.Equal(data[i+32:i+48], head[32:48]) || binary.LittleEndian.Uint64(data[i+88:]) != uuidTree {
				continue
			}
			if _, err := d.WriteAt([]byte{data[i+96] ^ 1}, at+int64(i)+96); err != nil {
				t.Fatal(err)
			}
			found++
		}
	}
	if found == 0 {
		t.Fatal("no block of the UUID tree")
	}
}

func readAt(t testing.TB, d Device, at, size int64) []byte {
	t.Helper()
	data := make([]byte, size)
	if _, err := d.ReadAt(data, at); err != nil {
		t.Fatal(err)
	}
	return data
}
