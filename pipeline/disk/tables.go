package disk

import (
	"context"
	"sync"
)

// tabled is a file that lies elsewhere, of which pieces of tables are kept: each read
// of the disk needs a few bytes of them, and the kernel keeps only what is here.
type tabled struct {
	File
	mu     sync.Mutex
	pieces map[int64][]byte // by number
}

// A piece of tables in bytes, as large as a table of seSparse's, and how many are kept
// of a file.
const (
	tablePiece = 32 << 10
	mostPieces = 256
)

// readTable fills p with what lies at a place of a file's tables.
func readTable(ctx context.Context, f File, p []byte, at int64) error {
	t, ok := f.(*tabled)
	if !ok || at < 0 || at > t.Size()-int64(len(p)) {
		return readWhole(ctx, f, p, at)
	}
	for len(p) > 0 {
		piece, err := t.piece(ctx, at/tablePiece)
		if err != nil {
			return err
		}
		n := copy(p, piece[at%tablePiece:])
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// piece is a piece of the file, kept or read now.
func (t *tabled) piece(ctx context.Context, i int64) ([]byte, error) {
	t.mu.Lock()
	piece, ok := t.pieces[i]
	t.mu.Unlock()
	if ok {
		return piece, nil
	}
	piece = make([]byte, min(tablePiece, t.Size()-i*tablePiece))
	if err := readWhole(ctx, t.File, piece, i*tablePiece); err != nil {
		return nil, err
	}
	t.keep(i, piece)
	return piece, nil
}

// keep keeps a piece, in the place of any other if there are too many.
func (t *tabled) keep(i int64, piece []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.pieces {
		if len(t.pieces) < mostPieces {
			break
		}
		delete(t.pieces, other)
	}
	t.pieces[i] = piece
}
