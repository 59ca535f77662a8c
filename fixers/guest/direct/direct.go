// Package direct reaches a guest's files through the kernel it runs on: loop
// devices at the partitions' offsets, mounted in a private mount namespace,
// names resolved by the kernel inside the guest's root. It takes milliseconds
// where the reference engine starts a virtual machine. It needs root, and shows
// a stranger's file system to this kernel; an operator may forbid it.
//
// Supported: ext2, ext3, ext4 and XFS on partitions or whole disks. For all
// else Mount's error wraps ErrUnsupported, and the caller takes the reference
// engine.
package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"

	"hyper2kvm/fixers/guest"
)

// ErrUnsupported is a file system that this engine or this kernel cannot
// mount: another engine may.
var ErrUnsupported = errors.New("not supported by the direct engine")

// engine is an opened guest. It implements guest.Guest.
type engine struct {
	disks    []*os.File
	topology guest.Topology
	mounts   *mounts
	log      *slog.Logger
}

// Open reads what lies on a guest's disks, raw files in the machine's order:
// in production, what the overlays' daemon exports through FUSE. The files are
// opened for writing; nothing is written before Mount, which may replay a
// journal. ctx bounds Open alone.
func Open(ctx context.Context, disks []string, log *slog.Logger) (guest.Guest, error) {
	g := &engine{log: log}
	for i, path := range disks {
		if err := g.openDisk(ctx, fmt.Sprintf("disk%d", i), path); err != nil {
			return nil, errors.Join(fmt.Errorf("disk %d: %w", i, err), g.closeDisks())
		}
	}
	if err := g.topology.ReadVolumes(g.part); err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	if err := g.topology.ReadSpans(g.part); err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	m, err := newMounts()
	if err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	g.mounts = m
	return g, nil
}

func (g *engine) openDisk(ctx context.Context, name, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	g.disks = append(g.disks, f)
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
		if err := g.identify(ctx, p.Name, path, p.Start, p.Size); err != nil {
			return err
		}
	}
	if len(disk.Partitions) == 0 {
		found := len(g.topology.Filesystems)
		if err := g.identify(ctx, name, path, 0, size); err != nil {
			return err
		}
		if len(g.topology.Filesystems) > found { // a boot sector that looked like an empty table
			disk.Table, disk.ID = "", ""
		}
	}
	g.topology.Disks = append(g.topology.Disks, disk)
	return nil
}

func (g *engine) identify(ctx context.Context, device, path string, offset, size int64) error {
	found, ok, err := identify(ctx, path, offset, size, g.log)
	if err != nil || !ok {
		return err
	}
	found.Device = device
	g.topology.Filesystems = append(g.topology.Filesystems, found)
	return nil
}

// Topology is what lies on the disks.
func (g *engine) Topology() guest.Topology { return g.topology }

func (g *engine) filesystem(device string) (guest.Filesystem, bool) {
	i := slices.IndexFunc(g.topology.Filesystems, func(f guest.Filesystem) bool { return f.Device == device })
	if i < 0 {
		return guest.Filesystem{}, false
	}
	return g.topology.Filesystems[i], true
}

// Mount mounts a file system. When it cannot be done here but may be done
// elsewhere, the error wraps ErrUnsupported.
func (g *engine) Mount(device, at string) error {
	found, ok := g.filesystem(device)
	if !ok {
		return fmt.Errorf("mount %s: no such file system: %w", device, fs.ErrNotExist)
	}
	if len(g.disks) == 0 {
		return fmt.Errorf("mount %s: %w", device, fs.ErrClosed)
	}
	if _, ok := options[found.Type]; !ok {
		return fmt.Errorf("mount %s: %s is %w", device, found.Type, ErrUnsupported)
	}
	file, start := g.extent(device)
	l, err := attach(file, start, found.Size)
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	if err := g.mounts.mount(l, found.Type, at); err != nil {
		return errors.Join(fmt.Errorf("mount %s: %w", device, err), l.detach())
	}
	return nil
}

// part reads a device's bytes.
func (g *engine) part(device string) io.ReaderAt {
	file, start := g.extent(device)
	return io.NewSectionReader(file, start, math.MaxInt64-start)
}

// extent is the disk that a device of the topology is on, and where it starts.
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

// UnmountAll writes everything through and unmounts.
func (g *engine) UnmountAll() error { return g.mounts.unmountAll() }

// Close writes everything through to the disks and lets go of them: it
// returns when the kernel has detached every device. Its error means that
// writes may be missing. Closing twice is harmless.
func (g *engine) Close() error { return errors.Join(g.mounts.close(), g.closeDisks()) }

func (g *engine) closeDisks() error {
	var errs []error
	for _, f := range g.disks {
		errs = append(errs, f.Sync(), f.Close())
	}
	g.disks = nil
	return errors.Join(errs...)
}
