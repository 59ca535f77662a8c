package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// Logical volumes are never activated: where their bytes lie is read from the
// metadata, so that neither the UUIDs that clones of one template share nor this
// machine's own groups can be met. Most volumes lie in one piece, and need nothing
// but a loop device there; of others device-mapper makes one, by a table of ours.

// openVolumes adds the logical volumes and what they hold to the topology.
func (g *engine) openVolumes(ctx context.Context) error {
	if err := g.topology.ReadVolumes(g.part); err != nil {
		return err
	}
	for _, v := range g.topology.Volumes {
		if v.Problem != "" || v.Size == 0 {
			continue
		}
		if err := g.identifyVolume(ctx, v); err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return nil
}

func (g *engine) identifyVolume(ctx context.Context, v guest.Volume) error {
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
		file, base := g.extent(s.On[0].Device)
		at := base + s.On[0].Start
		if i == 0 {
			disk, start, next = file, at, at
		}
		if len(s.On) > 1 || file != disk || at != next {
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

// ReadAt reads, piece by piece. Source: dm-stripe, Linux drivers/md/dm-stripe.c.
func (p pieces) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		device, at, size := p.find(off + int64(n))
		if size == 0 {
			return n, io.EOF
		}
		m, err := p.g.part(device).ReadAt(b[n:min(int64(len(b)), int64(n)+size)], at)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// find is the device that a byte of the volume lies on, where it lies there, and
// how many bytes follow it there.
func (p pieces) find(off int64) (device string, at, size int64) {
	for _, s := range p.v.Segments {
		if off >= s.Size {
			off -= s.Size
			continue
		}
		if len(s.On) == 1 {
			return s.On[0].Device, s.On[0].Start + off, s.Size - off
		}
		row, within := off/s.Chunk, off%s.Chunk
		n := int64(len(s.On))
		on := s.On[row%n]
		return on.Device, on.Start + row/n*s.Chunk + within, s.Chunk - within
	}
	return "", 0, 0
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
