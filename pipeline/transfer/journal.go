package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
)

// journal tells which chunks of a copy are in its target, so that a copy that was
// killed goes on where it was. It is a header's page and then records, all with
// checksums of their own: what follows a record that is damaged or cut is not believed,
// nor is a record whose digests the manifest has not. What it does not tell is
// copied again, so a journal that is lost costs time alone.
type journal struct {
	header
	f    *os.File
	end  int64  // of the records that are believed
	boot string // of the machine, when the journal was begun
}

// record is count chunks that are in the target, from first on.
type record struct {
	first, count int64
	digests      uint32 // CRC-32C of their digests in the manifest
}

const (
	recordSize = 24
	// recordChunks bounds what one record tells of, and what is read to check it.
	recordChunks = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r record) bytes() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(r.first))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.count))
	b = binary.LittleEndian.AppendUint32(b, r.digests)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseRecord reads a record; false for one that is damaged or tells of chunks
// that the disk has not.
func parseRecord(b []byte, chunks int64) (record, bool) {
	r := record{int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:])), binary.LittleEndian.Uint32(b[16:])}
	ok := crc32.Checksum(b[:20], castagnoli) == binary.LittleEndian.Uint32(b[20:]) &&
		r.first >= 0 && r.count > 0 && r.count <= recordChunks && r.first <= chunks-r.count
	return r, ok
}

// bootID is other after each start of the machine: what was written before and
// not brought to stable storage may then be gone.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// createJournal begins a journal in place of any that is there.
func createJournal(path string, h header) (*journal, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	there := h
	there.ID += "\n" + boot
	page, err := there.page()
	if err != nil {
		return nil, err
	}
	copy(page[headerSize-sumSize:], sumOf(page))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(page); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{header: h, f: f, end: headerSize, boot: boot}, nil
}

// openJournal opens the journal of a copy of h; os.ErrNotExist if there is none,
// and ErrManifest if it is another's or damaged.
func openJournal(path string, h header) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	got, boot, err := readJournalHeader(f)
	if err == nil && got != h {
		err = fmt.Errorf("%w: it is of another copy", ErrManifest)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &journal{header: h, f: f, end: headerSize, boot: boot}, nil
}

// sumSize is the room of a checksum at the end of the header's page, in bytes.
const sumSize = 8

func sumOf(page []byte) string {
	return fmt.Sprintf("%0*x", sumSize, crc32.Checksum(page[:headerSize-sumSize], castagnoli))
}

// readJournalHeader reads the header of a copy's journal, and which start of the machine it
// began in. A flipped bit would make it another copy's.
func readJournalHeader(f io.ReaderAt) (h header, boot string, err error) {
	page, err := readPage(f)
	if err != nil {
		return h, "", err
	}
	if sum := string(page[headerSize-sumSize:]); sum != sumOf(page) && strings.Trim(sum, "\n") != "" { // journals had none once
		return h, "", fmt.Errorf("%w: its header is damaged", ErrManifest)
	}
	if h, err = parseHeader(page[:headerSize-sumSize]); err != nil {
		return h, "", err
	}
	h.ID, boot, _ = strings.Cut(h.ID, "\n")
	return h, boot, nil
}

// replay is the chunks that the journal tells of and whose digests the manifest
// has.
func (j *journal) replay(m *manifest) (bitmap, error) {
	done := newBitmap(m.chunks())
	b := make([]byte, recordSize)
	for {
		_, err := j.f.ReadAt(b, j.end)
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return nil, err
		}
		r, ok := parseRecord(b, m.chunks())
		if !ok {
			return done, nil
		}
		sum, err := m.sum(r.first, r.count)
		if err != nil {
			return nil, err
		}
		if sum == r.digests {
			done.set(r.first, r.count)
		}
		j.end += recordSize
	}
}

// sum is the checksum of the digests of some chunks.
func (m *manifest) sum(first, count int64) (uint32, error) {
	digests, err := m.raw(first, count)
	return crc32.Checksum(digests, castagnoli), err
}

// add tells that chunks are in the target.
func (j *journal) add(m *manifest, first, count int64) error {
	for count > 0 {
		n := min(count, recordChunks)
		sum, err := m.sum(first, n)
		if err != nil {
			return err
		}
		if _, err := j.f.WriteAt(record{first, n, sum}.bytes(), j.end); err != nil {
			return err
		}
		j.end += recordSize
		first, count = first+n, count-n
	}
	return nil
}

// otherBoot tells whether the machine was started anew since the journal began.
func (j *journal) otherBoot() (bool, error) {
	boot, err := bootID()
	return boot != j.boot, err
}

func (j *journal) sync() error  { return j.f.Sync() }
func (j *journal) close() error { return j.f.Close() }

// bitmap is a set of chunks.
type bitmap []uint64

func newBitmap(n int64) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) has(i int64) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bitmap) set(first, count int64) {
	for i := first; i < first+count; i++ {
		b[i/64] |= 1 << (i % 64)
	}
}

func (b bitmap) clear(i int64) { b[i/64] &^= 1 << (i % 64) }

// hasAll tells whether all count chunks from first on are in the set.
func (b bitmap) hasAll(first, count int64) bool {
	for i := first; i < first+count; i++ {
		if !b.has(i) {
			return false
		}
	}
	return true
}

// runs are the runs of chunks in the set.
func (b bitmap) runs(chunks int64) []run {
	var list []run
	for i := range chunks {
		if !b.has(i) {
			continue
		}
		if n := len(list); n > 0 && list[n-1].first+list[n-1].count == i {
			list[n-1].count++
		} else {
			list = append(list, run{first: i, count: 1})
		}
	}
	return list
}
