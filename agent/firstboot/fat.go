package firstboot

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/bits"
	"strings"
)

// fatVolume is a FAT file system, of which the root folder alone is read. Nobody has
// looked at it: go-diskfs, which writes such images here, divides by zeroes and
// allocates what they ask for when it reads one.
//
// Source: Microsoft, FAT: General Overview of On-Disk Format, 1.03.
type fatVolume struct {
	r       io.ReaderAt
	bits    int64 // of an entry of the table: 12, 16 or 32
	table   int64 // where it begins, bytes
	root    int64 // where the root folder begins, bytes; 0 if it is a chain
	entries int64 // of the root folder, if it is no chain
	first   int64 // cluster of the root folder, if it is a chain
	data    int64 // where the cluster 2 begins, bytes
	cluster int64 // bytes
	count   int64 // of clusters
	name    string
}

const fatEntry = 32 // bytes of a folder's entry

func openFAT(r io.ReaderAt) (volume, error) {
	boot := make([]byte, 512)
	if _, err := r.ReadAt(boot, 0); err != nil || boot[510] != 0x55 || boot[511] != 0xAA || boot[0] != 0xEB && boot[0] != 0xE9 {
		return nil, errNotThis
	}
	v := &fatVolume{r: r}
	if !v.layout(boot) {
		return nil, errNotThis
	}
	v.name = fatLabel(boot, v.bits)
	folder, err := v.folder()
	if err != nil {
		return v, nil // its label decides whether anybody is told
	}
	for e := range folder.all() {
		if e[11]&0x18 == 0x08 && e[11] != longName {
			v.name = strings.TrimRight(string(e[:11]), " ")
		}
	}
	return v, nil
}

// layout works out where all lies; false where no FAT can be so.
func (v *fatVolume) layout(boot []byte) bool {
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(boot[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(boot[at:])) }
	sector, perCluster, reserved, tables := u16(11), int64(boot[13]), u16(14), int64(boot[16])
	entries, total, perTable := u16(17), u16(19), u16(22)
	if total == 0 {
		total = u32(32)
	}
	wide := perTable == 0
	if wide {
		perTable = u32(36)
	}
	if sector < 512 || sector > 4096 || bits.OnesCount64(uint64(sector)) != 1 || bits.OnesCount64(uint64(perCluster)) != 1 || reserved == 0 || tables == 0 || tables > 2 || perTable == 0 {
		return false
	}
	rootSectors := (entries*fatEntry + sector - 1) / sector
	start := reserved + tables*perTable
	v.table, v.cluster, v.data = reserved*sector, perCluster*sector, (start+rootSectors)*sector
	if total <= start+rootSectors {
		return false
	}
	v.count = (total - start - rootSectors) / perCluster
	switch {
	case wide:
		v.bits, v.first = 32, u32(44)&0x0FFFFFFF
	case v.count < 4085:
		v.bits, v.root, v.entries = 12, start*sector, entries
	default:
		v.bits, v.root, v.entries = 16, start*sector, entries
	}
	return wide == (entries == 0)
}

// fatLabel is the label in the boot sector, which the root folder's counts before.
func fatLabel(boot []byte, width int64) string {
	at := 43
	if width == 32 {
		at = 71
	}
	return strings.TrimRight(string(boot[at:at+11]), " \x00")
}

func (v *fatVolume) label() string { return v.name }

// folder is the root folder.
func (v *fatVolume) folder() (fatFolder, error) {
	if v.bits == 32 {
		return v.chain(v.first, mostFolder)
	}
	b := make([]byte, v.entries*fatEntry) // 2 MiB at most
	_, err := v.r.ReadAt(b, v.root)
	return b, err
}

// chain is what a chain of clusters holds, up to so many bytes.
func (v *fatVolume) chain(cluster, most int64) (data []byte, err error) {
	for int64(len(data)) < most {
		if cluster < 2 || cluster >= v.count+2 {
			break
		}
		b := make([]byte, min(v.cluster, most-int64(len(data))))
		if _, err := io.ReadFull(io.NewSectionReader(v.r, v.data+(cluster-2)*v.cluster, int64(len(b))), b); err != nil {
			return nil, errors.New("was cut short")
		}
		data = append(data, b...)
		if cluster, err = v.next(cluster); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// next is the cluster after another one; what is beyond the last ends a chain.
func (v *fatVolume) next(cluster int64) (int64, error) {
	b := make([]byte, 4)
	at := cluster * v.bits / 8
	if _, err := v.r.ReadAt(b[:(v.bits+7)/8], v.table+at); err != nil {
		return 0, errors.New("was cut short")
	}
	n := int64(binary.LittleEndian.Uint32(b))
	switch {
	case v.bits == 12 && cluster%2 == 1:
		return n >> 4, nil
	case v.bits == 12:
		return n & 0xFFF, nil
	}
	return n & 0x0FFFFFFF, nil
}

func (v *fatVolume) open(name string, most int64) ([]byte, error) {
	folder, err := v.folder()
	if err != nil {
		return nil, err
	}
	e := folder.find(name)
	if e == nil {
		return nil, fs.ErrNotExist
	}
	size := int64(binary.LittleEndian.Uint32(e[28:]))
	if size > most {
		return nil, errTooLarge
	}
	cluster := int64(binary.LittleEndian.Uint16(e[26:]))
	if v.bits == 32 {
		cluster |= int64(binary.LittleEndian.Uint16(e[20:])) << 16
	}
	data, err := v.chain(cluster, size)
	if err == nil && int64(len(data)) < size {
		err = errors.New("was cut short")
	}
	return data, err
}
