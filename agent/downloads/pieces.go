package downloads

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

// piece is a part of a file: so many bytes of a reader, from one of its bytes on. Without
// a reader they are zeroes.
type piece struct {
	from     io.ReaderAt
	at, size int64
}

func (p piece) readAt(b []byte, off int64) (int, error) {
	if p.from == nil {
		clear(b)
		return len(b), nil
	}
	n, err := p.from.ReadAt(b, p.at+off)
	switch {
	case n == len(b):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF // what it is a piece of is shorter now
	}
	return n, err
}

// pieces are a file that is put together while it is read. It may be read by many at once.
type pieces struct {
	list []piece
	ends []int64 // where each ends in the file
}

func newPieces(list ...piece) *pieces {
	p := &pieces{list: list}
	for _, one := range list {
		p.ends = append(p.ends, p.size()+one.size)
	}
	return p
}

// size is the file's, in bytes.
func (p *pieces) size() int64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

// ReadAt implements io.ReaderAt.
func (p *pieces) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: before the file's beginning", off)
	}
	for i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > off }); i < len(p.list) && n < len(b); i++ {
		one := p.list[i]
		skip := off + int64(n) - (p.ends[i] - one.size)
		m, err := one.readAt(b[n:n+int(min(one.size-skip, int64(len(b)-n)))], skip)
		if n += m; err != nil {
			return n, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
