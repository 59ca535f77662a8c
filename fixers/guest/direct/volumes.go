package direct

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// Neither logical volumes nor arrays are ever activated: where their bytes lie is
// read from what is kept on their members, so that neither the UUIDs that clones of
// one template share nor this machine's own can be met, and no superblock changes.
// Most volumes lie in one piece, and need nothing but a loop device there; of others
// device-mapper makes one, by a table of ours.

// openVolume adds what a volume holds to the topology.
func (g *engine) openVolume(ctx context.Context, v guest.Volume) error {
	if v.Unsupported != "" {
		return nil
	}
	if disk, start, ok := g.onePiece(v); ok {
		return g.identify(ctx, v.Name, disk, start, v.Size)
	}
	ends, err := g.ends(v)
	if err != nil {
		return err
	}
	defer ends.Close()
	return g.identify(ctx, v.Name, ends, 0, v.Size)
}

// onePiece is where a volume lies if its segments follow each other on one disk.
func (g *engine) onePiece(v guest.Volume) (disk *os.File, start int64, ok bool) {
	next := int64(0)
	for i, s := range v.Segments {
		if _, nested := g.volume(s.On[0].Device); nested || len(s.On) > 1 {
			return nil, 0, false
		}
		file, base := g.extent(s.On[0].Device)
		at := base + s.On[0].Start
		if i == 0 {
			disk, start, next = file, at, at
		}
		if file != disk || at != next {
			return nil, 0, false
		}
		next += s.Size
	}
	return disk, start, disk != nil
}

// How much of a volume's beginning and end is looked at for signatures. Nearly
// all are in the first 128 KiB; the second header of LUKS is within 4 MiB, and
// md's old formats are in the last 128 KiB.
//
// Source: libblkid, src/superblocks; md(4); cryptsetup, LUKS2 on-disk format.
const (
	headLength = 4<<20 + 64<<10
	tailLength = 1 << 20
)

// ends is a copy in memory of a volume's beginning and end, with a hole between
// them, for a program that tells what it holds.
func (g *engine) ends(v guest.Volume) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate("volume", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "volume")
	err = f.Truncate(v.Size)
	for _, start := range []int64{0, max(0, v.Size-tailLength)} {
		if err == nil {
			_, err = io.Copy(io.NewOffsetWriter(f, start), io.NewSectionReader(pieces{g, v}, start, min(headLength, v.Size-start)))
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// pieces reads a volume wherever its bytes lie.
type pieces struct {
	g *engine
	v guest.Volume
}

// ReadAt reads, piece by piece.
func (p pieces) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		at, size := p.v.Find(off + int64(n))
		if size == 0 {
			return n, io.EOF
		}
		m, err := p.g.reader(at.Device).ReadAt(b[n:min(int64(len(b)), int64(n)+size)], at.Start)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// reader reads the bytes of any device of the topology.
func (g *engine) reader(device string) io.ReaderAt {
	if v, ok := g.volume(device); ok {
		return pieces{g, v}
	}
	return g.part(device)
}

func (g *engine) volume(name string) (guest.Volume, bool) {
	i := slices.IndexFunc(g.topology.Volumes, func(v guest.Volume) bool { return v.Name == name })
	if i < 0 {
		return guest.Volume{}, false
	}
	return g.topology.Volumes[i], true
}
