package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/disk/vhost"
)

// depth is the metadata context in which QEMU tells what is in an overlay itself:
// there its value is ofOverlay.
const (
	depth     = "qemu:allocation-depth"
	ofOverlay = 1
)

// layered is an overlay over a disk that is served too, and may be smaller. What
// the overlay holds is read from it, and all else from the disk beneath: with one
// server less on the way, which most bytes then take.
type layered struct {
	*export
	beneath padded
	own     []Range // what the overlay holds, in order
}

// mostOwn bounds what is remembered of an overlay. Fixers change a few files; one
// that holds more than that is read as a whole.
const mostOwn = 1 << 16

// errScattered is an overlay that holds more than is remembered.
var errScattered = errors.New("it holds too many pieces")

func openLayered(ctx context.Context, over, beneath disk.Export, may patience) (Reader, error) {
	overlay := may
	if beneath.Remote != nil {
		overlay.silence = 0 // it may read that disk, which has deadlines of its own, and waits for its turn
	}
	top, err := openExport(ctx, over, overlay)
	if err != nil {
		return nil, err
	}
	own, err := top.own(ctx)
	if errors.Is(err, errScattered) {
		return top, nil
	}
	if err != nil {
		return nil, errors.Join(err, top.Close())
	}
	base, err := openDisk(ctx, beneath, may)
	if err == nil && base.Size() > top.size {
		err = errors.Join(fmt.Errorf("it has %d bytes, the disk beneath it %d", top.size, base.Size()), base.Close())
	}
	if err != nil {
		return nil, errors.Join(err, top.Close())
	}
	return &layered{top, padded{base, top.size}, own}, nil
}

// own is what an overlay holds itself.
func (e *export) own(ctx context.Context) (own []Range, err error) {
	for off := int64(0); off < e.size; {
		var list []nbd.Extent
		if err := e.ask(ctx, func(c *nbd.Client) error {
			list, err = c.Extents(ctx, depth, off, min(window, e.size-off))
			return err
		}); err != nil {
			return nil, err
		}
		for _, x := range list {
			if x.Flags == ofOverlay {
				own = append(own, Range{off, x.Length})
			}
			off += x.Length
		}
		if len(own) > mostOwn {
			return nil, errScattered
		}
	}
	return own, nil
}

// Read implements Reader.
func (l *layered) Read(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		from, n := l.at(off)
		piece := p[:min(int64(len(p)), n)]
		if err := from.Read(ctx, piece, off); err != nil {
			return err
		}
		p, off = p[len(piece):], off+int64(len(piece))
	}
	return nil
}

// Extents implements Reader: a server knows its own disk's sooner than those of the
// one beneath.
func (l *layered) Extents(ctx context.Context, off, n int64) ([]Extent, error) {
	from, most := l.at(off)
	return from.Extents(ctx, off, min(n, most))
}

// at is the disk to read from at off, and for how many bytes.
func (l *layered) at(off int64) (Reader, int64) {
	i := sort.Search(len(l.own), func(i int) bool { return l.own[i].Offset+l.own[i].Length > off })
	switch {
	case i == len(l.own):
		return l.beneath, l.size - off
	case off < l.own[i].Offset:
		return l.beneath, l.own[i].Offset - off
	}
	return l.export, l.own[i].Offset + l.own[i].Length - off
}

func (l *layered) join(ctx context.Context, m *vhost.Memory) {
	if j, ok := l.beneath.Reader.(joiner); ok {
		j.join(ctx, m)
	}
}

func (l *layered) Close() error { return errors.Join(l.export.Close(), l.beneath.Close()) }

// Origins are the chunks that the source had otherwise than the target has them,
// with their digests there: what is changed in a guest is changed in an overlay
// over its source.
const (
	originSize = 8 + int64(len(Digest{}))
	// mostChanged is how many chunks are told of.
	mostChanged = 1 << 16
)

// addOrigins has the manifest tell of the chunks of which the source's overlay
// holds something, as they are in the disk beneath.
func (m *manifest) addOrigins(ctx context.Context, from Reader) error {
	l, ok := from.(*layered)
	if !ok {
		m.Changed = -1
		return nil
	}
	chunks := m.chunksOf(l.own)
	if len(chunks) > mostChanged {
		m.Changed = -1
		return nil
	}
	buffer := make([]byte, m.Chunk)
	for n, i := range chunks {
		p := buffer[:m.length(i)]
		if err := l.beneath.Read(ctx, p, i*m.Chunk); err != nil {
			return fmt.Errorf("%w: %w", ErrSource, err)
		}
		d := digestOf(p)
		text := append(binary.LittleEndian.AppendUint64(nil, uint64(i)), d[:]...)
		if _, err := m.f.WriteAt(text, headerSize+m.chunks()*digestSize+int64(n)*originSize); err != nil {
			return unwritten(err)
		}
	}
	m.Changed = int64(len(chunks))
	return m.f.Truncate(m.fileSize())
}

// chunksOf are the chunks in which ranges lie, which are in order.
func (h header) chunksOf(ranges []Range) (chunks []int64) {
	for _, r := range ranges {
		for i := r.Offset / h.Chunk; i*h.Chunk < r.Offset+r.Length && len(chunks) <= 2*mostChanged; i++ {
			if n := len(chunks); n == 0 || chunks[n-1] != i {
				chunks = append(chunks, i)
			}
		}
	}
	return chunks
}

// ofSource makes the manifest tell of the source instead of the target.
func (m *manifest) ofSource() error {
	if m.Changed < 0 {
		return fmt.Errorf("%w: more than %d pieces of the disk were changed, and it does not tell how they were", ErrManifest, mostChanged)
	}
	text := make([]byte, m.Changed*originSize)
	if _, err := m.f.ReadAt(text, headerSize+m.chunks()*digestSize); err != nil {
		return err
	}
	m.instead = map[int64]Digest{}
	for o := range slices.Chunk(text, int(originSize)) {
		m.instead[int64(binary.LittleEndian.Uint64(o))] = Digest(o[8:])
	}
	return nil
}
