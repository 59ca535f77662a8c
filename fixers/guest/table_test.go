package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testDisk is a disk of 64 MiB whose first sectors are given.
type testDisk map[int64][]byte

const testDiskSize = 64 << 20

func (d testDisk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > testDiskSize {
		return 0, io.EOF
	}
	clear(p)
	for at := off / sector; at*sector < off+int64(len(p)); at++ {
		copy(p[at*sector-off:], d[at])
	}
	return len(p), nil
}

// link is an MBR sector with these entries: type, start, length.
func link(entries ...[3]uint32) []byte {
	s := make([]byte, sector)
	binary.LittleEndian.PutUint32(s[440:], 0xcafe0123)
	for i, e := range entries {
		at := s[446+16*i:]
		at[4] = byte(e[0])
		binary.LittleEndian.PutUint32(at[8:], e[1])
		binary.LittleEndian.PutUint32(at[12:], e[2])
	}
	s[510], s[511] = 0x55, 0xaa
	return s
}

// gpt is a disk with a GPT of these entries; change is done before the sums.
func gpt(change func(header, entries []byte)) testDisk {
	le := binary.LittleEndian
	h, entries := make([]byte, sector), make([]byte, 128*entrySize)
	copy(h, "EFI PART")
	for at, v := range map[int]uint32{8: 0x10000, 12: 92, 24: 1, 72: 2, 80: 128, 84: entrySize} {
		le.PutUint32(h[at:], v)
	}
	copy(h[56:], bytes.Repeat([]byte{0xab}, 16))
	first := entries[entrySize:]
	copy(first, "0123456789abcdefFEDCBA9876543210")
	le.PutUint64(first[32:], 2048)
	le.PutUint64(first[40:], 4095)
	copy(first[56:], "b\x00o\x00o\x00t\x00")
	change(h, entries)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:min(le.Uint32(h[12:]), sector)]))
	d := testDisk{0: link([3]uint32{0xee, 1, testDiskSize/sector - 1}), 1: h}
	for i := 0; i*sector < len(entries); i++ {
		d[int64(2+i)] = entries[i*sector : (i+1)*sector]
	}
	return d
}

func TestTablesAreReadAsTheKernelReadsThem(t *testing.T) {
	part := func(n int, start, size int64, kind, uuid string) Partition {
		return Partition{Number: n, Start: start * sector, Size: size * sector, Type: kind, UUID: uuid}
	}
	for _, test := range []struct {
		name string
		disk testDisk
		want []Partition
	}{
		{"primary", testDisk{0: link([3]uint32{0x83, 2048, 100}, [3]uint32{}, [3]uint32{0x82, 4096, 50})},
			[]Partition{part(1, 2048, 100, "83", "cafe0123-01"), part(3, 4096, 50, "82", "cafe0123-03")}},
		{"logical", testDisk{0: link([3]uint32{0x0f, 1000, 9000}), 1000: link([3]uint32{0x83, 10, 20}, [3]uint32{5, 100, 200}), 1100: link([3]uint32{0x8e, 5, 30})},
			[]Partition{part(1, 1000, 9000, "0f", "cafe0123-01"), part(5, 1010, 20, "83", "cafe0123-05"), part(6, 1105, 30, "8e", "cafe0123-06")}},
		{"logical of no type", testDisk{0: link([3]uint32{5, 1000, 9000}), 1000: link([3]uint32{0, 10, 20}, [3]uint32{5, 100, 200}), 1100: link([3]uint32{0x83, 5, 30})},
			[]Partition{part(1, 1000, 9000, "05", "cafe0123-01"), part(5, 1010, 20, "00", "cafe0123-05"), part(6, 1105, 30, "83", "cafe0123-06")}},
		{"over the end", testDisk{0: link([3]uint32{0x83, 131000, 5000}, [3]uint32{0x83, 200000, 5000})},
			[]Partition{part(1, 131000, 72, "83", "cafe0123-01")}},
		{"chain over the end", testDisk{0: link([3]uint32{5, 1000, 4294967295}), 1000: link([3]uint32{0x83, 10, 20}, [3]uint32{5, 4294967295, 9})},
			[]Partition{part(1, 1000, 130072, "05", "cafe0123-01"), part(5, 1010, 20, "83", "cafe0123-05")}},
	} {
		disk, err := ReadTable(test.disk, testDiskSize)
		if err != nil || disk.Table != "mbr" || disk.ID != "cafe0123" {
			t.Errorf("%s: %+v, %v", test.name, disk, err)
		}
		if diff := cmp.Diff(test.want, disk.Partitions); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestAGPTIsReadByItsEntriesNumbers(t *testing.T) {
	got, err := ReadTable(gpt(func(_, _ []byte) {}), testDiskSize)
	want := Disk{Size: testDiskSize, Table: "gpt", ID: "abababab-abab-abab-abab-abababababab", Partitions: []Partition{
		{Number: 2, Start: 1 << 20, Size: 1 << 20, Type: "33323130-3534-3736-3839-616263646566", UUID: "43444546-4142-3839-3736-353433323130", Label: "boot"}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestHostileTablesEnd(t *testing.T) {
	le := binary.LittleEndian
	disk, err := ReadTable(testDisk{0: link([3]uint32{5, 1000, 9000}), 1000: link([3]uint32{0x83, 1, 1}, [3]uint32{5, 0, 9}),
		1001: link([3]uint32{5, 1, 1})}, testDiskSize)
	if err != nil || len(disk.Partitions) != 2 {
		t.Errorf("a chain that ends in itself: %d partitions, %v", len(disk.Partitions), err)
	}
	disk, err = ReadTable(testDisk{0: link([3]uint32{5, 1000, 9000}), 1000: link([3]uint32{0x83, 1, 1}, [3]uint32{5, 1, 9}),
		1001: link([3]uint32{0x83, 1, 1}, [3]uint32{5, 1, 9})}, testDiskSize)
	if err != nil || len(disk.Partitions) != 3 {
		t.Errorf("a chain that never ends: %d partitions, %v", len(disk.Partitions), err)
	}
	for name, change := range map[string]func(h, e []byte){
		"no entry size":   func(h, _ []byte) { le.PutUint32(h[84:], 0) },
		"too many":        func(h, _ []byte) { le.PutUint32(h[80:], 1<<31) },
		"at the end":      func(h, _ []byte) { le.PutUint64(h[72:], testDiskSize/sector-1) },
		"far away":        func(h, _ []byte) { le.PutUint64(h[72:], 1<<63) },
		"a huge header":   func(h, _ []byte) { le.PutUint32(h[12:], 1<<31) },
		"another's table": func(h, _ []byte) { h[0] = 'X' },
	} {
		disk, err := ReadTable(gpt(change), testDiskSize)
		if !errors.Is(err, ErrTable) || disk.Table != "" {
			t.Errorf("%s: %+v, %v, want ErrTable", name, disk, err)
		}
	}
	disk, err = ReadTable(gpt(func(_, e []byte) { le.PutUint64(e[entrySize+40:], 1<<62) }), testDiskSize)
	if err != nil || len(disk.Partitions) != 0 {
		t.Errorf("a partition over the end: %+v, %v", disk, err)
	}
}

func TestABootSectorIsNoTable(t *testing.T) {
	s := link()
	s[446+16] = 'B' // FAT's and NTFS's code reaches into where the entries are
	for _, d := range []testDisk{{0: s}, {}} {
		if disk, err := ReadTable(d, testDiskSize); err != nil || disk.Table != "" {
			t.Errorf("%+v, %v, want no table", disk, err)
		}
	}
	if disk, err := ReadTable(testDisk{}, 100); err != nil || disk.Table != "" {
		t.Errorf("a tiny disk: %+v, %v", disk, err)
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add(link([3]uint32{0x0f, 1, 9000}), link([3]uint32{0x83, 10, 20}, [3]uint32{5, 100, 200}))
	d := gpt(func(_, _ []byte) {})
	f.Add(d[0], d[1])
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := testDisk{0: first[:min(len(first), sector)], 1: second[:min(len(second), sector)]}
		disk, err := ReadTable(d, testDiskSize)
		if err != nil && !errors.Is(err, ErrTable) {
			t.Errorf("error %v is not ErrTable", err)
		}
		for _, p := range disk.Partitions {
			if p.Start <= 0 || p.Size <= 0 || p.Start+p.Size > testDiskSize {
				t.Errorf("partition %+v is not on the disk", p)
			}
		}
	})
}

func TestBootCodeIsNamed(t *testing.T) {
	for text, want := range map[string]string{"\x00GRUB \x00Geom": "GRUB", "xxLILO": "LILO", "Invalid partition table": "Windows", "": ""} {
		if got := BootCode([]byte(text)); got != want {
			t.Errorf("BootCode(%q) = %q, want %q", text, got, want)
		}
	}
	if got := BootCode(append(make([]byte, bootCodeSize), "GRUB"...)); got != "" {
		t.Errorf("text behind the code is taken for %q", got)
	}
}

func TestModesGoThereAndBack(t *testing.T) {
	for mode := range uint32(0o10000) {
		if got := UnixMode(FileMode(mode)); got != mode {
			t.Fatalf("UnixMode(FileMode(%o)) = %o", mode, got)
		}
	}
	for unix, want := range map[uint32]fs.FileMode{0o100644: 0o644, 0o040755: fs.ModeDir | 0o755, 0o120777: fs.ModeSymlink | 0o777,
		0o010600: fs.ModeNamedPipe | 0o600, 0o140600: fs.ModeSocket | 0o600, 0o020666: fs.ModeDevice | fs.ModeCharDevice | 0o666,
		0o060660: fs.ModeDevice | 0o660, 0o030000: fs.ModeIrregular} {
		if got := FileMode(unix); got != want {
			t.Errorf("FileMode(%o) = %v, want %v", unix, got, want)
		}
	}
}
