package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"hyper2kvm/fixers/guest"
)

// openDisk reads a disk's table and what its partitions hold.
func (g *engine) openDisk(ctx context.Context, name string, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	disk, err := guest.ReadTable(f, size)
	if errors.Is(err, guest.ErrTable) {
		g.log.Warn("the partition table is not usable", "disk", name, "err", err)
	} else if err != nil {
		return err
	}
	disk.Name = name
	for i := range disk.Partitions {
		p := &disk.Partitions[i]
		p.Name = fmt.Sprintf("%sp%d", name, p.Number)
		if disk.Table == "mbr" && guest.IsExtended(p.Type) {
			continue
		}
		if err := g.identify(ctx, p.Name, f, p.Start, p.Size); err != nil {
			return err
		}
	}
	if len(disk.Partitions) == 0 {
		found := len(g.topology.Filesystems)
		if err := g.identify(ctx, name, f, 0, size); err != nil {
			return err
		}
		if len(g.topology.Filesystems) > found { // a boot sector that looked like an empty table
			disk.Table, disk.ID = "", ""
		}
	}
	g.topology.Disks = append(g.topology.Disks, disk)
	return nil
}

// identify adds what a part of a file holds to the topology, if that is known.
func (g *engine) identify(ctx context.Context, device string, f *os.File, offset, size int64) error {
	found, ok, err := Identify(ctx, f, offset, size, g.log.With("device", device))
	if err != nil || !ok {
		return err
	}
	found.Device = device
	g.topology.Filesystems = append(g.topology.Filesystems, found)
	return nil
}

// part reads a device's bytes.
func (g *engine) part(device string) io.ReaderAt {
	file, start := g.extent(device)
	return io.NewSectionReader(file, start, math.MaxInt64-start)
}

// extent is the disk that a disk or a partition of the topology is on, and where
// it starts.
func (g *engine) extent(device string) (*os.File, int64) {
	for i, disk := range g.topology.Disks {
		if disk.Name == device {
			return g.disks[i], 0
		}
		for _, p := range disk.Partitions {
			if p.Name == device {
				return g.disks[i], p.Start
			}
		}
	}
	panic("topology: file system on no disk: " + device)
}
