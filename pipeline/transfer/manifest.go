package transfer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/blake3"
)

// ErrManifest is a manifest that cannot be used.
var ErrManifest = errors.New("cannot use the manifest")

// Digest is BLAKE3 of one chunk, in 256 bits. The zero Digest stands for a chunk
// of zeroes, which is never hashed: a hole costs nothing, in the manifest's file
// neither.
type Digest [32]byte

const digestSize = int64(len(Digest{}))

// header is what a manifest says of the disk as a whole.
type header struct {
	Format string `json:"format"` // manifestFormat
	ID     string `json:"id"`     // of the copy that made it
	Size   int64  `json:"size"`   // of the disk, bytes
	Chunk  int64  `json:"chunk"`  // bytes; the last one may be shorter
	Hash   string `json:"hash"`
	// Changed is how many chunks the source had otherwise, whose digests there
	// follow the disk's own; negative if that is not known.
	Changed int64  `json:"changed,omitempty"`
	Origins string `json:"origins,omitempty"` // digest of what is told of those
	Content string `json:"content,omitempty"` // digest of all digests, once the disk is whole
}

const (
	manifestFormat = "hyper2kvm-manifest-1"
	hashName       = "blake3-256"
	// headerSize is where the digests begin: a page, so that they are aligned.
	headerSize = 4096
)

// The least chunk is what one request moves; the most chunks keep a manifest
// under 128 MiB, whatever the disk's size.
const (
	leastChunk = 1 << 20
	mostChunks = 1 << 22
)

func chunkFor(size int64) int64 {
	chunk := int64(leastChunk)
	for size/chunk >= mostChunks {
		chunk *= 2
	}
	return chunk
}

func newHeader(id string, size int64) header {
	return header{Format: manifestFormat, ID: id, Size: size, Chunk: chunkFor(size), Hash: hashName}
}

// chunks is how many the disk has.
func (h header) chunks() int64 { return (h.Size + h.Chunk - 1) / h.Chunk }

// length is how long chunk i is.
func (h header) length(i int64) int64 { return min(h.Chunk, h.Size-i*h.Chunk) }

func (h header) check() error {
	switch {
	case h.Format != manifestFormat || h.Hash != hashName:
		return fmt.Errorf("%w: it is of format %q and hash %q, this program knows %s and %s", ErrManifest, h.Format, h.Hash, manifestFormat, hashName)
	case h.Size < 0 || h.Chunk != chunkFor(h.Size) || h.Changed > min(h.chunks(), mostChanged):
		return fmt.Errorf("%w: %d bytes in chunks of %d, %d of them changed", ErrManifest, h.Size, h.Chunk, h.Changed)
	}
	return nil
}

// page is the header as it stands in files.
func (h header) page() ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(text) >= headerSize {
		return nil, fmt.Errorf("%w: its ID is %d bytes long", ErrManifest, len(h.ID))
	}
	return append(text, bytes.Repeat([]byte{'\n'}, headerSize-len(text))...), nil
}

func readHeader(f io.ReaderAt) (h header, err error) {
	page, err := readPage(f)
	if err != nil {
		return h, err
	}
	return parseHeader(page)
}

func readPage(f io.ReaderAt) ([]byte, error) {
	page := make([]byte, headerSize)
	if n, err := f.ReadAt(page, 0); err != nil {
		return nil, fmt.Errorf("%w: %w after %d bytes", ErrManifest, err, n)
	}
	return page, nil
}

func parseHeader(page []byte) (h header, err error) {
	if err := json.Unmarshal(bytes.TrimRight(page, "\n"), &h); err != nil {
		return h, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return h, h.check()
}

// fileSize is that of the manifest's file.
func (h header) fileSize() int64 {
	return headerSize + h.chunks()*digestSize + max(0, h.Changed)*originSize
}

// manifest is an open one: a header, then a digest for each chunk, in their
// order, and then the origins. Chunks may be set from several goroutines at once.
type manifest struct {
	header
	f       *os.File
	instead map[int64]Digest // digests that hold instead of those in the file
}

func createManifest(path string, h header) (*manifest, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	m := &manifest{header: h, f: f}
	if err := errors.Join(m.writeHeader(), f.Truncate(h.fileSize())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// openManifest opens one to be read, or with os.O_RDWR to be changed too.
func openManifest(path string, flags int) (*manifest, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(f)
	if err == nil {
		err = h.sized(f)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &manifest{header: h, f: f}, nil
}

// sized checks a file's size. The manifest of a copy that has not ended may have
// some origins that its header does not tell of yet.
func (h header) sized(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if n := info.Size(); n < h.fileSize() || h.Content != "" && n > h.fileSize() {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrManifest, n, h.fileSize())
	}
	return nil
}

func (m *manifest) writeHeader() error {
	page, err := m.page()
	if err == nil {
		_, err = m.f.WriteAt(page, 0)
	}
	return err
}

func (m *manifest) set(i int64, d Digest) error {
	_, err := m.f.WriteAt(d[:], headerSize+i*digestSize)
	return err
}

// raw is the digests of count chunks, one after another.
func (m *manifest) raw(first, count int64) ([]byte, error) {
	text := make([]byte, count*digestSize)
	_, err := m.f.ReadAt(text, headerSize+first*digestSize)
	return text, err
}

func (m *manifest) get(i int64) (d Digest, err error) {
	if d, ok := m.instead[i]; ok {
		return d, nil
	}
	_, err = m.f.ReadAt(d[:], headerSize+i*digestSize)
	return d, err
}

// content is the digest of the whole disk: of its size, its chunks' size and
// all their digests. What the source had is no part of it.
func (m *manifest) content() (string, error) {
	return m.hash(headerSize, m.chunks()*digestSize)
}

func (m *manifest) origins() (string, error) {
	if m.Changed <= 0 {
		return "", nil
	}
	return m.hash(headerSize+m.chunks()*digestSize, m.Changed*originSize)
}

func (m *manifest) hash(off, n int64) (string, error) {
	hash := blake3.New()
	fmt.Fprintf(hash, "%s %d %d\n", manifestFormat, m.Size, m.Chunk) // a hash takes all
	if got, err := io.Copy(hash, io.NewSectionReader(m.f, off, n)); err != nil || got != n {
		return "", errors.Join(err, fmt.Errorf("%w: %d bytes of digests", ErrManifest, got))
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// seal says that the disk is whole, on stable storage.
func (m *manifest) seal() (err error) {
	if m.Content, err = m.content(); err != nil {
		return err
	}
	if m.Origins, err = m.origins(); err != nil {
		return err
	}
	return errors.Join(m.writeHeader(), m.f.Sync())
}

// sealed checks that a manifest tells of a whole disk, and is whole itself.
func (m *manifest) sealed() error {
	if m.Content == "" {
		return fmt.Errorf("%w: the copy that it tells of did not come to its end", ErrManifest)
	}
	content, failed := m.content()
	origins, err := m.origins()
	switch {
	case failed != nil || err != nil:
		return errors.Join(failed, err)
	case m.Content != content || m.Origins != origins:
		return fmt.Errorf("%w: its digests are not those that were written: it was damaged or changed", ErrManifest)
	}
	return nil
}

func (m *manifest) close() error { return m.f.Close() }

// zeroes is what pieces of chunks are compared with.
var zeroes [zeroPiece]byte

// zeroPiece is the least run of zeroes that becomes a hole of the target: qcow2's
// usual cluster.
const zeroPiece = 64 << 10

func isZero(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), zeroPiece)
		if !bytes.Equal(p[:n], zeroes[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

func digestOf(p []byte) Digest {
	if isZero(p) {
		return Digest{}
	}
	return blake3.Sum256(p)
}
