package initrd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	headerSize = 110
	pathMax    = 4096 // the kernel skips an entry with a longer name or link
	trailer    = "TRAILER!!!"
)

// Bits of a mode, as in a newc header and in stat(2).
const (
	typeMask = 0o170000
	typeDir  = 0o040000
	typeReg  = 0o100000
	typeLink = 0o120000
)

// entry is the header of one file in a newc archive.
type entry struct {
	name  string // "" when the kernel would skip the entry
	mode  uint32
	nlink uint32
	inode inode
	size  int64
	end   int64 // where the next header may start
}

// inode tells which entries are hard links of each other.
type inode struct{ major, minor, ino, kind uint32 }

// stream is an unpacked member being read.
type stream struct {
	r     io.Reader
	buf   *bufio.Reader
	pos   int64 // of the byte to be read next
	limit int64
	raw   bool // not compressed: something else may follow
}

func (s *stream) Read(p []byte) (int, error) {
	if s.pos >= s.limit {
		return 0, fmt.Errorf("%w: more than %d bytes unpacked", ErrLimit, s.limit)
	}
	n, err := s.reader().Read(p[:min(int64(len(p)), s.limit-s.pos)])
	s.pos += int64(n)
	return n, err
}

func (s *stream) reader() *bufio.Reader {
	if s.buf == nil {
		s.buf = bufio.NewReaderSize(s.r, 64<<10)
	}
	return s.buf
}

// entry skips zeros and reads the next header and name. The error is io.EOF at
// the end of the archive.
func (s *stream) entry() (entry, error) {
	c, err := s.zeros()
	if err != nil {
		return entry{}, err
	}
	if c != '0' || s.pos%4 != 0 {
		if s.raw {
			return entry{}, io.EOF
		}
		return entry{}, fmt.Errorf("%w: junk at unpacked byte %d", ErrFormat, s.pos)
	}
	start := s.pos
	var h [headerSize]byte
	if err := s.full(h[:]); err != nil {
		return entry{}, err
	}
	e, nameSize, err := parseHeader(h[:])
	if err != nil {
		return entry{}, fmt.Errorf("unpacked byte %d: %w", start, err)
	}
	bodyStart := align4(start + headerSize + nameSize)
	e.end = align4(bodyStart + e.size)
	if nameSize == 0 || nameSize > pathMax || e.link() && e.size > pathMax {
		return e, nil
	}
	name := make([]byte, bodyStart-start-headerSize)
	if err := s.full(name); err != nil {
		return entry{}, err
	}
	name, _, _ = bytes.Cut(name[:nameSize], []byte{0})
	e.name = string(name)
	return e, nil
}

// zeros skips zeros and returns the byte behind them, unread.
func (s *stream) zeros() (byte, error) {
	for {
		c, err := s.reader().Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if err != nil {
			return 0, io.EOF
		}
		if c[0] != 0 {
			return c[0], nil
		}
		var zero [1]byte
		if err := s.full(zero[:]); err != nil {
			return 0, err
		}
	}
}

// body reads an entry's contents.
func (s *stream) body(e entry) io.Reader { return io.LimitReader(fullReader{s}, e.size) }

// skip moves to the end of an entry.
func (s *stream) skip(e entry) error {
	n := e.end - s.pos
	if s.raw && n > 0 {
		// The last entry's padding may be missing at the very end.
		_, err := io.CopyN(io.Discard, s, max(0, n-3))
		if err != nil {
			return truncated(err)
		}
		_, err = io.CopyN(io.Discard, s, e.end-s.pos)
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	_, err := io.CopyN(io.Discard, s, n)
	return truncated(err)
}

func (s *stream) full(p []byte) error {
	_, err := io.ReadFull(s, p)
	return truncated(err)
}

// fullReader makes the end of the archive inside a file an error.
type fullReader struct{ s *stream }

func (r fullReader) Read(p []byte) (int, error) {
	n, err := r.s.Read(p)
	if n > 0 {
		return n, nil
	}
	return n, truncated(err)
}

func truncated(err error) error {
	if err == nil || errors.Is(err, ErrLimit) {
		return err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

// parseHeader reads a newc header: six bytes of magic, thirteen numbers of eight
// hexadecimal digits (Documentation/driver-api/early-userspace/buffer-format.rst).
func parseHeader(h []byte) (e entry, nameSize int64, err error) {
	if magic := string(h[:6]); magic != "070701" && magic != "070702" {
		return e, 0, fmt.Errorf("%w: no newc magic but %q", ErrFormat, magic)
	}
	var n [13]uint32
	for k := range n {
		v, err := strconv.ParseUint(string(h[6+8*k:14+8*k]), 16, 32)
		if err != nil {
			return e, 0, fmt.Errorf("%w: header: %w", ErrFormat, err)
		}
		n[k] = uint32(v)
	}
	e.mode, e.nlink, e.size = n[1]&0o177777, n[4], int64(n[6])
	e.inode = inode{major: n[7], minor: n[8], ino: n[0], kind: e.mode & typeMask}
	return e, int64(n[11]), nil
}

func (e entry) link() bool { return e.mode&typeMask == typeLink }

func align4(n int64) int64 { return (n + 3) &^ 3 }

// archiver writes a newc archive. Its output depends on its input alone: owners
// are root, times are 0, inodes count from 1.
type archiver struct {
	out bytes.Buffer
	ino int
}

func (a *archiver) add(name string, mode uint32, body []byte) {
	a.ino++
	nlink := 1
	if mode&typeMask == typeDir {
		nlink = 2
	}
	fmt.Fprintf(&a.out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.ino, mode, 0, 0, nlink, 0, len(body), 0, 0, 0, 0, len(name)+1, 0)
	a.out.WriteString(name + "\x00")
	a.pad()
	a.out.Write(body)
	a.pad()
}

func (a *archiver) pad() {
	for a.out.Len()%4 != 0 {
		a.out.WriteByte(0)
	}
}

// close ends the archive and returns it.
func (a *archiver) close() []byte {
	a.ino = -1
	a.add(trailer, 0, nil)
	return a.out.Bytes()
}
