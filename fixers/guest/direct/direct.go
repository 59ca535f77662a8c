// Package direct reaches a guest's files through the kernel it runs on: loop
// devices at the partitions' offsets, mounted in a private mount namespace,
// names resolved by the kernel inside the guest's root. It takes milliseconds
// where the reference engine starts a virtual machine. It needs root, and shows
// a stranger's file system to this kernel; an operator may forbid it.
//
// Supported, where the kernel has them: ext2, ext3, ext4, XFS, btrfs (its default
// subvolume) and FAT, on partitions, whole disks, logical volumes and md's arrays that
// are linear, RAID 0 or RAID 1, and on what LUKS has encrypted. A volume that lies in
// several pieces, or in several copies, or encrypted takes the kernel's device-mapper,
// all else its loop devices.
// For what the kernel lacks Mount's error wraps ErrUnsupported, and the caller takes
// the reference engine.
package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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
	opened   []openedVolume // what is encrypted, and has a device
	topology guest.Topology
	mounts   *mounts
	log      *slog.Logger
}

// Open reads what lies on a guest's disks, raw files in the machine's order:
// in production, what the overlays' daemon exports through FUSE. The files are
// opened for writing; nothing is written before Mount, which may replay a
// journal. What is encrypted is opened as far as there are keys for it. ctx bounds
// Open alone.
func Open(ctx context.Context, disks []string, keys *guest.Keyring, log *slog.Logger) (guest.Guest, error) {
	g := &engine{log: log}
	for i, path := range disks {
		if err := g.openDisk(ctx, fmt.Sprintf("disk%d", i), path); err != nil {
			return nil, errors.Join(fmt.Errorf("disk %d: %w", i, err), g.closeDisks())
		}
	}
	if err := g.topology.ReadVolumes(ctx, keys, g.reader, func(v *guest.Volume) error { return g.openVolume(ctx, v) }); err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	if err := g.topology.ReadSpans(g.reader); err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	m, err := newMounts()
	if err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	g.mounts = m
	return g, nil
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
	if !Knows(found.Type) {
		return fmt.Errorf("mount %s: %s is %w", device, found.Type, ErrUnsupported)
	}
	d, err := g.attach(found)
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	replay, err := g.mounts.mount(d, found.Type, at)
	if err != nil {
		return errors.Join(fmt.Errorf("mount %s: %w", device, err), d.detach())
	}
	if replay {
		g.log.Info("a journal was replayed on the overlay", "device", device)
		g.setReplayed(device)
	}
	return nil
}

// setReplayed keeps with the topology what a mount has changed.
func (g *engine) setReplayed(device string) {
	g.topology.Filesystems = slices.Clone(g.topology.Filesystems) // others may have the old list
	for i := range g.topology.Filesystems {
		if f := &g.topology.Filesystems[i]; f.Device == device {
			f.Replayed = true
		}
	}
}

// UnmountAll writes everything through and unmounts.
func (g *engine) UnmountAll() error { return g.mounts.unmountAll() }

// Close writes everything through to the disks and lets go of them: it
// returns when the kernel has detached every device. Its error means that
// writes may be missing. Closing twice is harmless.
func (g *engine) Close() error { return errors.Join(g.mounts.close(), g.closeDisks()) }

func (g *engine) closeDisks() error {
	errs := []error{g.closeOpened()}
	for _, f := range g.disks {
		errs = append(errs, f.Sync(), f.Close())
	}
	g.disks = nil
	return errors.Join(errs...)
}
