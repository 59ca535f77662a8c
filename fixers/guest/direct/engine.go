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

// engine is the mounter's half of an opened guest: all but its files.
type engine struct {
	disks    []*os.File
	opened   []openedVolume // what is encrypted, and has a device
	topology guest.Topology
	mounts   *mounts
	log      *slog.Logger
}

// readDisks reads what lies on a guest's disks, and opens what is encrypted as far as
// there are keys for it. Nothing can be mounted yet.
func readDisks(ctx context.Context, disks []*os.File, keys *guest.Keyring, log *slog.Logger) (*engine, error) {
	g := &engine{disks: disks, log: log}
	for i, f := range disks {
		if err := g.openDisk(ctx, fmt.Sprintf("disk%d", i), f); err != nil {
			return nil, errors.Join(fmt.Errorf("disk %d: %w", i, err), g.closeDisks())
		}
	}
	if err := g.topology.ReadVolumes(ctx, keys, g.reader, func(v *guest.Volume) error { return g.openVolume(ctx, v) }); err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	if err := errors.Join(g.topology.ReadSpans(g.reader), g.topology.ReadSubvolumes(g.reader)); err != nil {
		return nil, errors.Join(err, g.closeDisks())
	}
	return g, nil
}

func (g *engine) filesystem(device string) (guest.Filesystem, bool) {
	i := slices.IndexFunc(g.topology.Filesystems, func(f guest.Filesystem) bool { return f.Device == device })
	if i < 0 {
		return guest.Filesystem{}, false
	}
	return g.topology.Filesystems[i], true
}

// Mount mounts what a file system shows by default.
func (g *engine) Mount(ctx context.Context, device, at string) error {
	_, err := g.mount(ctx, mountArgs{Device: device, At: at})
	return err
}

// mount mounts a file system, or a subvolume of one, and tells the mount's number. When
// it cannot be done here but may be done elsewhere, the error wraps ErrUnsupported.
//
// Source: btrfs(5), subvolid=.
func (g *engine) mount(ctx context.Context, args mountArgs) (id string, err error) {
	device, option := args.Device, ""
	found, ok := g.filesystem(device)
	if !ok {
		return "", fmt.Errorf("mount %s: no such file system: %w", device, fs.ErrNotExist)
	}
	if args.ByID {
		if _, err := found.Subvolume(args.Subvolume); err != nil {
			return "", fmt.Errorf("mount %w", err)
		}
		option = fmt.Sprintf(",subvolid=%d", args.Subvolume)
	}
	if !Knows(found.Type) {
		return "", fmt.Errorf("mount %s: %s is %w", device, found.Type, ErrUnsupported)
	}
	d, err := g.share(found)
	if err != nil {
		return "", fmt.Errorf("mount %s: %w", device, err)
	}
	id, replay, err := g.mounts.mount(ctx, d, found.Type, option, args.At)
	if err != nil {
		return "", errors.Join(fmt.Errorf("mount %s: %w", device, err), d.Detach())
	}
	if replay {
		g.log.Info("a journal was replayed on the overlay", "device", device)
		g.note(device, func(f *guest.Filesystem) { f.Replayed = true })
	}
	if found.Type == "ntfs" {
		unclean, err := g.mounts.readOnly()
		if err != nil {
			return "", fmt.Errorf("mount %s: %w", device, err)
		}
		g.note(device, func(f *guest.Filesystem) { f.Unclean = unclean })
	}
	return id, nil
}

// note keeps with the topology what a mount has shown.
func (g *engine) note(device string, set func(*guest.Filesystem)) {
	for i := range g.topology.Filesystems {
		if f := &g.topology.Filesystems[i]; f.Device == device {
			set(f)
		}
	}
}

// UnmountAll writes everything through and unmounts.
func (g *engine) UnmountAll() error { return g.mounts.unmountAll() }

// Close writes everything through to the disks and lets go of them: it
// returns when the kernel has detached every device.
func (g *engine) Close() error { return errors.Join(g.mounts.unmountAll(), g.closeDisks()) }

func (g *engine) closeDisks() error {
	errs := []error{g.closeOpened()}
	for _, f := range g.disks {
		errs = append(errs, f.Sync(), f.Close())
	}
	g.disks = nil
	return errors.Join(errs...)
}
