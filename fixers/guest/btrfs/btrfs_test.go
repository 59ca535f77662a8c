package btrfs_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"hyper2kvm/fixers/guest/btrfs"
	"hyper2kvm/fixers/guest/guesttest"
)

// made is the disk of guesttest.Btrfs as a kernel 6.18 and mkfs.btrfs 6.2 have made
// it, packed by zstd -19.
func made(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/subvolumes.raw.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	disk, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func want() (all []btrfs.Subvolume) {
	for _, s := range guesttest.OfBtrfs {
		all = append(all, btrfs.Subvolume(s))
	}
	return all
}

// Places in the superblock, and in a block of a tree.
const (
	super     = 64 << 10
	rootTree  = super + 0x50
	kindOfSum = super + 0xc4
	device    = super + 0xc9
	address   = 48
	nodeSize  = 16 << 10
)

func TestSubvolumesAreRead(t *testing.T) {
	disk := made(t)
	got, err := btrfs.Read(bytes.NewReader(disk), int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want(), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// copies are where the copies of a block are.
func copies(disk []byte, at []byte) (found []int) {
	for i := 0; i+nodeSize <= len(disk); i += 4096 {
		if i != super && bytes.Equal(disk[i+address:i+address+8], at) {
			found = append(found, i)
		}
	}
	return found
}

func TestACopyThatIsWholeIsEnough(t *testing.T) {
	disk := made(t)
	roots := copies(disk, disk[rootTree:rootTree+8])
	if len(roots) != 2 {
		t.Fatalf("%d copies of the tree of roots", len(roots))
	}
	for _, at := range roots {
		disk[at+5000] ^= 1
		got, err := btrfs.Read(bytes.NewReader(disk), int64(len(disk)))
		last := at == roots[1]
		if last != errors.Is(err, btrfs.ErrUnread) || !last && !cmp.Equal(got, want()) {
			t.Errorf("damage at %d: %v, %v", at, got, err)
		}
	}
}

func TestWhatIsElsewhereIsUnread(t *testing.T) {
	disk := made(t)
	disk[device] = 2
	if got, err := btrfs.Read(bytes.NewReader(disk), int64(len(disk))); !errors.Is(err, btrfs.ErrUnread) || got != nil {
		t.Errorf("Read = %v, %v, want ErrUnread", got, err)
	}
	for _, none := range [][]byte{nil, make([]byte, 1<<20), made(t)[:1<<20]} {
		if got, err := btrfs.Read(bytes.NewReader(none), int64(len(none))); !errors.Is(err, btrfs.ErrUnread) || got != nil {
			t.Errorf("Read = %v, %v, want ErrUnread", got, err)
		}
	}
}

// TestASubvolumeWithoutANameIsLeftOut gives one a name that no folder can hold: the
// others are known, and that not all are is told.
func TestASubvolumeWithoutANameIsLeftOut(t *testing.T) {
	disk := made(t)
	for _, at := range copies(disk, disk[rootTree:rootTree+8]) {
		b := disk[at : at+nodeSize]
		copy(b, bytes.ReplaceAll(b, []byte("@home"), []byte("@/../")))
		binary.LittleEndian.PutUint32(b, crc32.Checksum(b[32:], crc32.MakeTable(crc32.Castagnoli)))
	}
	got, err := btrfs.Read(bytes.NewReader(disk), int64(len(disk)))
	left := slices.DeleteFunc(want(), func(s btrfs.Subvolume) bool { return s.Path == "/@home" })
	if diff := cmp.Diff(left, got); diff != "" || !errors.Is(err, btrfs.ErrUnread) {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

var errIO = errors.New("input/output error")

type broken struct{ io.ReaderAt }

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off > 1<<20 {
		return 0, errIO
	}
	return b.ReaderAt.ReadAt(p, off)
}

func TestAnErrorOfTheDiskIsOne(t *testing.T) {
	disk := made(t)
	if _, err := btrfs.Read(broken{bytes.NewReader(disk)}, int64(len(disk))); !errors.Is(err, errIO) || errors.Is(err, btrfs.ErrUnread) {
		t.Errorf("Read: error %v, want %v", err, errIO)
	}
}

// FuzzRead changes a few bytes of the metadata, whose checksums are not looked at.
func FuzzRead(f *testing.F) {
	disk := made(f)
	disk[kindOfSum] = 1
	var pages []int
	for i := 0; i < len(disk); i += 4096 {
		if !bytes.Equal(disk[i:i+4096], make([]byte, 4096)) {
			pages = append(pages, i)
		}
	}
	some := rand.New(rand.NewPCG(1, 2))
	for i := range pages {
		f.Add(uint16(i), uint16(some.Uint32()), []byte{byte(some.Uint32()), 0xff})
	}
	f.Fuzz(func(t *testing.T, page, offset uint16, patch []byte) {
		at := pages[int(page)%len(pages)] + int(offset)%4096
		patch = patch[:min(len(patch), 64, len(disk)-at)]
		old := bytes.Clone(disk[at : at+len(patch)])
		defer copy(disk[at:], old)
		copy(disk[at:], patch)
		got, _ := btrfs.Read(bytes.NewReader(disk), int64(len(disk)))
		for _, s := range got {
			if !path.IsAbs(s.Path) || path.Clean(s.Path) != s.Path || strings.Contains(s.Path, "\x00") || len(s.Path) > 4095 {
				t.Errorf("subvolume %+v", s)
			}
		}
	})
}
