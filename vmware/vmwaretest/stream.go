package vmwaretest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zlib"
)

// What a streamOptimized VMDK is made of, in sectors, and its markers.
//
// Source: VMware Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
const (
	grainSectors      = 128
	grainsPerTable    = 512
	descriptorSectors = 20
	headerOverhead    = 128
	directoryAtEnd    = 1<<64 - 1

	endOfStream    = 0
	grainTable     = 1
	grainDirectory = 2
	footer         = 3
)

var errEnded = errors.New("the lease has ended")

// stream writes a disk as a streamOptimized VMDK in one go, as a host sends it: the
// directory of its grains stands at the end. Grains of zeros are left out.
func stream(w io.Writer, raw *os.File, size int64, ended <-chan struct{}) error {
	packer, err := zlib.NewWriterLevel(nil, zlib.BestSpeed)
	if err != nil {
		return err
	}
	s := &streamer{w: w, size: size, ended: ended, packer: packer}
	s.write(header(size, directoryAtEnd))
	s.write(padded([]byte(streamDescriptor(size)), descriptorSectors*sector))
	s.write(make([]byte, headerOverhead*sector-s.at*sector))
	s.grains(raw)
	s.end()
	return s.err
}

// streamer is a stream that is written. The first error stays.
type streamer struct {
	w         io.Writer
	size      int64
	at        int64 // sectors written
	err       error
	ended     <-chan struct{}
	packer    *zlib.Writer
	table     []byte // of the grains since the last one was written
	directory []byte
}

// write writes whole sectors.
func (s *streamer) write(p []byte) {
	select {
	case <-s.ended:
		s.err = errors.Join(s.err, errEnded)
	default:
	}
	if s.err != nil {
		return
	}
	_, s.err = s.w.Write(p)
	s.at += int64(len(p)) / sector
}

// grains writes the grains with their tables.
func (s *streamer) grains(raw *os.File) {
	skip := newHoles(raw, s.size)
	grain := make([]byte, grainSectors*sector)
	for off := int64(0); off < s.size && s.err == nil; off += int64(len(grain)) {
		entry := uint32(0)
		if !skip.covers(off, int64(len(grain))) {
			entry = s.grain(raw, grain, off)
		}
		s.table = binary.LittleEndian.AppendUint32(s.table, entry)
		if len(s.table) == 4*grainsPerTable {
			s.endTable()
		}
	}
	if len(s.table) > 0 {
		s.endTable()
	}
	s.err = errors.Join(s.err, skip.err)
}

// grain writes one grain, unless it is all zeros, and returns where it stands.
func (s *streamer) grain(raw *os.File, grain []byte, off int64) uint32 {
	clear(grain)
	n, err := raw.ReadAt(grain[:min(int64(len(grain)), s.size-off)], off)
	if err != nil && !(err == io.EOF && int64(n) == s.size-off) {
		s.err = fmt.Errorf("read the disk at %d: %w", off, err)
		return 0
	}
	if zeros(grain) {
		return 0
	}
	packed := bytes.NewBuffer(make([]byte, 12))
	s.packer.Reset(packed)
	_, _ = s.packer.Write(grain) // nothing of a buffer fails
	_ = s.packer.Close()
	b := packed.Bytes()
	binary.LittleEndian.PutUint64(b, uint64(off/sector))
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-12))
	at := s.at
	s.write(padded(b, (len(b)+sector-1)/sector*sector))
	return uint32(at)
}

// endTable writes the table of the last grains, if it says anything.
func (s *streamer) endTable() {
	at := uint32(0)
	if !zeros(s.table) {
		s.mark(grainTable, grainsPerTable*4/sector)
		at = uint32(s.at)
		s.write(padded(s.table, 4*grainsPerTable))
	}
	s.directory = binary.LittleEndian.AppendUint32(s.directory, at)
	s.table = nil
}

// end writes what comes after the grains.
func (s *streamer) end() {
	length := (len(s.directory) + sector - 1) / sector * sector
	s.mark(grainDirectory, uint64(length/sector))
	directory := s.at
	s.write(padded(s.directory, length))
	s.mark(footer, 1)
	s.write(header(s.size, uint64(directory)))
	s.mark(endOfStream, 0)
}

func (s *streamer) mark(kind uint32, sectors uint64) {
	b := make([]byte, sector)
	binary.LittleEndian.PutUint64(b, sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	s.write(b)
}

// header is the first sector, and again the footer.
func header(size int64, directory uint64) []byte {
	b := []byte("KDMV")
	b = binary.LittleEndian.AppendUint32(b, 3)       // version
	b = binary.LittleEndian.AppendUint32(b, 0x30001) // line ends are tested, grains are compressed, there are markers
	for _, v := range []uint64{uint64(size / sector), grainSectors, 1, descriptorSectors} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, grainsPerTable)
	for _, v := range []uint64{0, directory, headerOverhead} { // no second directory
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, 0, '\n', ' ', '\r', '\n')
	b = binary.LittleEndian.AppendUint16(b, 1) // deflate
	return padded(b, sector)
}

func streamDescriptor(size int64) string {
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=%s
createType="streamOptimized"

# Extent description
RDONLY %d SPARSE "generated-stream.vmdk"

# The Disk Data Base
#DDB
ddb.adapterType = "lsilogic"
ddb.virtualHWVersion = "19"
`, 0x7a3f1b2c, noParent, size/sector)
}

func zeros(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }

// padded is p with zeros up to a length.
func padded(p []byte, length int) []byte {
	return append(p, make([]byte, length-len(p))...)
}
