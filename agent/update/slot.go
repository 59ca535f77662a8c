package update

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// mostWindow bounds the memory that it takes to inflate a member, in bytes.
const mostWindow = 32 << 20

// empty is the slot with names that no image leads to.
func (s slot) empty() slot {
	for _, p := range []*partition{&s.root, &s.verity} {
		p.Label, p.UUID = labelEmpty, uuid.NewString()
	}
	return s
}

// of is the slot with the names of a version's root.
func (s slot) of(a *archive) slot {
	s.root.Label, s.root.UUID = labelRoot, a.root
	s.verity.Label, s.verity.UUID = labelVerity, a.verity
	return s
}

// into inflates a member into a partition, and reads back what is there then.
func (m *member) into(ctx context.Context, p partition, done func(int64)) (err error) {
	z, err := zstd.NewReader(m, zstd.WithDecoderMaxWindow(mostWindow), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return err
	}
	defer z.Close()
	f, err := os.OpenFile(p.Node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, g := sha256.New(), &gauge{ctx: ctx, most: p.bytes, done: done}
	to := &sink{to: f}
	if _, err := io.Copy(io.MultiWriter(g, to, h), z); err != nil {
		return cmp.Or(g.err, to.err, m.failed(err))
	}
	if err := m.whole(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", p.Node, err)
	}
	return p.compare(f, g.n, h.Sum(nil))
}

// gauge stops what is more than there is room for, and what nobody wants any more.
type gauge struct {
	ctx     context.Context
	n, most int64
	done    func(int64)
	err     error
}

func (g *gauge) Write(b []byte) (int, error) {
	if g.n += int64(len(b)); g.n > g.most {
		g.err = fmt.Errorf("%w: it is larger than the %d MiB that there are for it", ErrArchive, g.most>>20)
	}
	if g.ctx.Err() != nil {
		g.err = context.Cause(g.ctx)
	}
	if g.err != nil {
		return 0, g.err
	}
	g.done(int64(len(b)))
	return len(b), nil
}

// sink keeps why it could not be written to.
type sink struct {
	to  io.Writer
	err error
}

func (s *sink) Write(b []byte) (n int, err error) {
	n, s.err = s.to.Write(b)
	return n, s.err
}

// compare reads back from the disk itself, and not from memory, what was written.
func (p partition) compare(f *os.File, n int64, sum []byte) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, n)); err != nil {
		return fmt.Errorf("read %s back: %w", p.Node, err)
	}
	if !bytes.Equal(h.Sum(nil), sum) {
		return fmt.Errorf("what %s has is not what was written to it: the disk is failing, use another one", p.Node)
	}
	return nil
}
