package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/pipeline/disk/inflate"
	"hyper2kvm/pipeline/proc"
)

// What a header says must be what a program of VMware's may write.
func TestASparseFileThatCannotBeMeantIsRefused(t *testing.T) {
	raw := pattern(300)
	streamed := stream(t, 300, grainsOf(raw, 64<<10))
	put16 := func(data []byte, at int, v uint16) { binary.LittleEndian.PutUint16(data[at:], v) }
	put32 := func(data []byte, at int, v uint32) { binary.LittleEndian.PutUint32(data[at:], v) }
	put64 := func(data []byte, at int, v uint64) { binary.LittleEndian.PutUint64(data[at:], v) }
	end := len(streamed)
	for name, c := range map[string]struct {
		data  []byte
		spoil func(data []byte)
		is    error
		says  string
	}{
		"stream":                            {streamed, func([]byte) {}, nil, ""},
		"a stream of version 4":             {streamed, func(d []byte) { put32(d, 4, 4) }, ErrNotADisk, "of the unknown version 4"},
		"a stream sent as text":             {streamed, func(d []byte) { copy(d[73:], "\n \n\n") }, ErrNotADisk, "a transfer as text has damaged it; copy it again as binary data"},
		"a stream without a capacity":       {streamed, func(d []byte) { put64(d, 12, 0); put64(d, 28, 0) }, ErrNotADisk, "its header and its footer differ"},
		"a stream with two capacities":      {streamed, func(d []byte) { put64(d, 12, 301) }, ErrNotADisk, "its header and its footer differ"},
		"a stream without a footer":         {streamed, func(d []byte) { put32(d, end-3*sectorSize+12, 0) }, ErrTruncated, "its footer is missing"},
		"a stream without an end":           {streamed, func(d []byte) { put32(d, end-sectorSize+12, 7) }, ErrTruncated, "its footer is missing"},
		"a stream without a second header":  {streamed, func(d []byte) { d[end-2*sectorSize] = 'X' }, ErrTruncated, "its footer is missing"},
		"a stream without markers":          {streamed, func(d []byte) { put32(d, 8, 1|1<<16); put32(d, end-2*sectorSize+8, 1|1<<16) }, ErrNotADisk, "it is compressed without markers"},
		"a directory behind the end":        {streamed, func(d []byte) { put64(d, end-2*sectorSize+56, uint64(end/sectorSize)) }, ErrTruncated, ""},
		"grains of no size":                 {streamed, func(d []byte) { put64(d, 20, 0); put64(d, end-2*sectorSize+20, 0) }, ErrNotADisk, "grains of 0 sectors"},
		"a stream of large grains":          {streamed, func(d []byte) { put64(d, 20, 4096); put64(d, end-2*sectorSize+20, 4096) }, ErrNotADisk, "compressed grains of 4096 sectors"},
		"old":                               {cowd(300, grainsOf(raw, sectorSize)), func([]byte) {}, nil, ""},
		"old, of version 2":                 {cowd(300, nil), func(d []byte) { put32(d, 4, 2) }, ErrNotADisk, "of the unknown version 2"},
		"old, with grains of three sectors": {cowd(300, nil), func(d []byte) { put32(d, 16, 3) }, ErrNotADisk, "grains of 3 sectors"},
		"old, without tables":               {cowd(300, nil), func(d []byte) { put32(d, 24, 0) }, ErrNotADisk, "claims 0 tables for 300 sectors"},
		"old, a table behind the end":       {cowd(300, nil), func(d []byte) { put32(d, 4*sectorSize, 1<<20) }, ErrTruncated, ""},
		"old, a table of zeros":             {cowd(300, nil), func(d []byte) { put32(d, 4*sectorSize, 1) }, ErrNotADisk, "its directory has the entry 0x1"},
		"new":                               {sesparse(300, grainsOf(raw, 4096), 1), func([]byte) {}, nil, ""},
		"new, of version 1":                 {sesparse(300, nil), func(d []byte) { put64(d, 8, 1) }, ErrNotADisk, "of the unknown version 0x1"},
		"new, with a journal to replay":     {sesparse(300, nil), func(d []byte) { put64(d, sectorSize+24, 1) }, ErrNotADisk, "its journal was never replayed: power the VM on and shut it down in VMware"},
		"new, without its second header":    {sesparse(300, nil), func(d []byte) { put64(d, 80, 1<<30) }, ErrTruncated, "its second header is missing"},
		"new, an odd directory":             {sesparse(300, nil), func(d []byte) { put64(d, 8*sectorSize, 7) }, ErrNotADisk, "its directory has the entry 0x7"},
		"new, an odd table":                 {sesparse(300, nil), func(d []byte) { put64(d, 9*sectorSize, 0xf<<60) }, ErrNotADisk, "its tables have the entry 0xf000000000000000"},
		"new, a grain of no kind":           {sesparse(300, nil), func(d []byte) { put64(d, 9*sectorSize, 5) }, ErrNotADisk, "its tables have the entry"},
		"new, a grain nowhere":              {sesparse(300, nil), func(d []byte) { put64(d, 9*sectorSize, 0x3000ffffffffffff) }, ErrNotADisk, "its tables have the entry"},
		"tables over one another": {cowd(2<<20, map[int64][]byte{0: raw[:sectorSize]}), func(d []byte) {
			for i := range 512 {
				copy(d[4*sectorSize+4*i:], d[4*sectorSize:][:4])
			}
		}, ErrNotADisk, "its tables lie over one another"},
		"a compression that is none": {streamed, func(d []byte) { put16(d, 77, 0) }, ErrNotADisk, "its header and its footer differ"},
	} {
		data := bytes.Clone(c.data)
		c.spoil(data)
		s, err := readSparse(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			err = s.whole(t.Context(), bytes.NewReader(data), int64(len(data)))
		}
		if !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v and %q", name, err, c.is, c.says)
		}
	}
}

// A descriptor and the headers of its extents must agree.
func TestExtentsThatAreNotWhatTheDescriptorSaysAreRefused(t *testing.T) {
	need(t, "qemu-img")
	raw := pattern(300)
	sparse := must(os.ReadFile(sources(t, raw)["monolithicSparse"]))(t)
	inside := func(old, now string) []byte {
		if len(now) > len(old) {
			t.Fatal("it would not fit")
		}
		return bytes.Replace(sparse, []byte(old), []byte(now+strings.Repeat("\n", len(old)-len(now))), 1)
	}
	nested := slices.Concat([]byte("KDMV\x01\x00\x00\x00"), make([]byte, 20), []byte{1, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 2000))
	for name, c := range map[string]struct {
		part    []byte
		extents string
		says    string
	}{
		"as they are":                  {cowd(300, nil), "RW 300 SPARSE \"part\"", ""},
		"rounded up at the end":        {sparse, "RW 290 SPARSE \"part\"", ""},
		"rounded up in between":        {sparse, "RW 290 SPARSE \"part\"\nRW 8 ZERO", "its descriptor says that it has 290 sectors, its header 300"},
		"rounded up by a grain":        {sparse, "RW 172 SPARSE \"part\"", "its descriptor says that it has 172 sectors, its header 300"},
		"too small":                    {cowd(300, nil), "RW 301 VMFSSPARSE \"part\"", "its descriptor says that it has 301 sectors, its header 300"},
		"new, said to be old":          {sesparse(300, nil), "RW 300 SPARSE \"part\"", "it is not the SPARSE extent that the descriptor says it is"},
		"old, said to be new":          {cowd(300, nil), "RW 300 SESPARSE \"part\"", "it is not the SESPARSE extent"},
		"flat, said to be sparse":      {raw, "RW 300 SPARSE \"part\"", "it is not the SPARSE extent"},
		"a descriptor in a descriptor": {nested, "RW 300 SPARSE \"part\"", "it is not the SPARSE extent"},
		"compressed":                   {stream(t, 300, nil), "RW 300 SPARSE \"part\"", "it is a compressed part of a split disk; clone the disk"},
		"empty":                        {nil, "RW 300 SPARSE \"part\"", "it is empty"},
		"itself":                       {inside("RW 300 SPARSE \"disk.vmdk\"", "RW 300 FLAT \"disk.vmd\" 0"), "", "it holds its data itself, and its descriptor names 1 extents, the first of them FLAT"},
		"itself twice":                 {inside("RW 300 SPARSE \"disk.vmdk\"", "RW 300 ZERO\nRW 9 ZERO"), "", "its descriptor names 2 extents"},
		"itself, smaller":              {inside("RW 300 SPARSE", "RW 100 SPARSE"), "", "its descriptor says that it has 100 sectors, its header 300"},
		"itself, cut in its text":      {sparse[:sectorSize+700], "", "it has 1212 bytes of "},
		"itself, its text elsewhere":   {slices.Concat(sparse[:28], []byte{2}, sparse[29:]), "", "its descriptor is at sector 2, where no program of VMware's puts it"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "part")
		writeFile(t, path, string(c.part))
		if c.extents != "" {
			path = described(t, dir, "disk.vmdk", 1, nil, c.extents)
		}
		got, err := ReadChain(t.Context(), path, VMDK, nil)
		if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: ReadChain = %+v, %v, want %q", name, got, err, c.says)
		}
	}
}

func TestADiskThatVMwareDidNotCloseIsNoticed(t *testing.T) {
	path := madeSparse(t, pattern(300))
	if c := readChain(t, path); len(c.Dirty()) > 0 {
		t.Errorf("%q was not closed", c.Dirty())
	}
	data := must(os.ReadFile(path))(t)
	data[72] = 1
	writeFile(t, path, string(data))
	if c := readChain(t, path); !slices.Equal(c.Dirty(), []string{path}) {
		t.Errorf("what was not closed is %q", c.Dirty())
	}
}

// A grain of zeros is no place in the file.
func TestGrainsOfZerosAreServed(t *testing.T) {
	needServers(t)
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	must(proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on", path, "1M"))(t)
	must(proc.Run(t.Context(), "qemu-io", "-f", "vmdk", "-c", "write -P 7 0 64k", "-c", "write -z 64k 64k", path))(t)
	want := make([]byte, 1<<20)
	copy(want, bytes.Repeat([]byte{7}, 64<<10))
	differ(t, "zeroed grains", served(t, readChain(t, path)), want)
	grain := &sparse{kind: Sparse, zeroes: true}
	if at, err := grain.place(1); at != 0 || err != nil {
		t.Errorf("a grain of zeros is at %d, %v", at, err)
	}
}

// A guest writes where it likes, and grains lie in the order in which they were written.
func TestGrainsLieInAnyOrder(t *testing.T) {
	needServers(t)
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	must(proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", "vmdk", path, "1M"))(t)
	want := make([]byte, 1<<20)
	for i, grain := range []int{3, 2, 1, 7, 0, 8, 15, 9, 10} {
		must(proc.Run(t.Context(), "qemu-io", "-f", "vmdk", "-c", fmt.Sprintf("write -P %d %dk 64k", i+1, 64*grain), path))(t)
		copy(want[grain<<16:], bytes.Repeat([]byte{byte(i + 1)}, 64<<10))
	}
	differ(t, "in any order", served(t, readChain(t, path)), want)
}

// The fall-back to a name's last part follows no link out of the folder.
func TestALinkOutOfTheFolderIsNotFollowedByItsName(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret.vmdk")
	writeFile(t, outside, "secret")
	must(0, os.Symlink(outside, filepath.Join(dir, "web.vmdk")))(t)
	if got, err := (folders{dir}).find(`C:\VMs\web.vmdk`, ""); err == nil {
		t.Errorf("find = %q", got)
	}
}

func TestWindowsNamesOfEncodingsAreKnown(t *testing.T) {
	for name, text := range map[string]string{"windows-936": "\xc4\xe3", "CP932": "\x83\x5c", "windows-950": "\xa4\xa4", "gb18030": "\xc4\xe3"} {
		got, err := UTF8(fmt.Appendf(nil, "encoding=%q\n%s", name, text))
		if err != nil || !strings.ContainsAny(got, "你ソ中") {
			t.Errorf("UTF8 in %s = %q, %v", name, got, err)
		}
	}
}

// A disk that changes beneath its reader is no disk of zeroes.
func TestADiskThatIsCutWhileItIsReadIsNamed(t *testing.T) {
	need(t, "qemu-img")
	raw := pattern(2048)
	for name, path := range disks(t, raw) {
		c := readChain(t, path)
		d := must(c.Read())(t)
		files := c.Files()
		last := files[len(files)-1] // of those of the disk in two parts, the second
		must(0, os.Truncate(last, 700))(t)
		if err := d.Read(make([]byte, len(raw)), 0); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: %v, want %v", name, err, ErrTruncated)
		}
		must(0, d.Close())(t)
	}
}

func TestACompressedGrainThatIsDamagedIsNamed(t *testing.T) {
	raw := pattern(2048)
	data := stream(t, 2048, grainsOf(raw, 64<<10))
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	for name, spoil := range map[string]func(grain []byte){
		"its bytes":        func(grain []byte) { grain[12+9] ^= 1 },
		"a size of none":   func(grain []byte) { binary.LittleEndian.PutUint32(grain[8:], 0) },
		"a size too large": func(grain []byte) { binary.LittleEndian.PutUint32(grain[8:], 128<<10+1) },
	} {
		spoilt := bytes.Clone(data)
		spoil(spoilt[9*sectorSize:]) // behind the header and a descriptor of eight sectors
		writeFile(t, path, string(spoilt))
		d := must(readChain(t, path).Read())(t)
		got := make([]byte, len(raw))
		if err := d.Read(got, 0); !errors.Is(err, inflate.ErrDamaged) || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", name, err, inflate.ErrDamaged)
		}
		if err := d.Read(got[:sectorSize], 300*sectorSize); err != nil || !bytes.Equal(got[:sectorSize], raw[300*sectorSize:][:sectorSize]) {
			t.Errorf("%s: another grain cannot be read: %v", name, err)
		}
		must(0, d.Close())(t)
	}
}
