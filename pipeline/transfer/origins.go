package transfer

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
)

// depth is the metadata context in which QEMU tells what is in an overlay itself:
// there its value is ofOverlay.
const (
	depth     = "qemu:allocation-depth"
	ofOverlay = 1
)

// An origin is a chunk that the source had otherwise than the target has it, with
// its digest there: what is changed in a guest is changed in an overlay over its
// source.
const (
	originSize = 8 + int64(len(Digest{}))
	// mostChanged is how many chunks are told of.
	mostChanged = 1 << 16
)

// addOrigins has the manifest tell of the chunks that are in an overlay, as they
// are in the disk beneath.
func (m *manifest) addOrigins(ctx context.Context, overlay *export, beneath Reader) error {
	chunks, err := m.inOverlay(ctx, overlay)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	if len(chunks) > mostChanged {
		m.Changed = -1
		return nil
	}
	buffer := make([]byte, m.Chunk)
	for n, i := range chunks {
		p := buffer[:m.length(i)]
		if err := beneath.Read(ctx, p, i*m.Chunk); err != nil {
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

// inOverlay are the chunks of which an overlay holds something, in their order;
// at most one more than are told of.
func (m *manifest) inOverlay(ctx context.Context, overlay *export) (chunks []int64, err error) {
	for off := int64(0); off < m.Size; {
		var list []nbd.Extent
		if err := overlay.ask(ctx, func(c *nbd.Client) error {
			list, err = c.Extents(ctx, depth, off, min(window, m.Size-off))
			return err
		}); err != nil {
			return nil, err
		}
		for _, e := range list {
			for i := off / m.Chunk; e.Flags == ofOverlay && i*m.Chunk < off+e.Length; i++ {
				chunks = append(chunks, i)
			}
			if off += e.Length; len(chunks) > 2*mostChanged {
				return slices.Compact(chunks), nil
			}
		}
	}
	return slices.Compact(chunks), nil
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

// describe adds to the manifest what it tells of the disk beneath the source's
// overlay, if there is one.
func (j Job) describe(ctx context.Context, m *manifest, from Reader) error {
	overlay, ok := from.(*export)
	if !ok || j.Beneath == (disk.Export{}) {
		return nil
	}
	beneath, err := openExport(ctx, j.Beneath, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	defer beneath.Close()
	return m.addOrigins(ctx, overlay, beneath)
}
