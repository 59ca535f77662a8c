package tree

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"syscall"

	"hyper2kvm/fixers/guest"
)

// Topology is what NewGuest or WithTopology was given.
func (f *FS) Topology() guest.Topology { return f.topology }

// Mount puts a device's tree at a folder, or its default subvolume; see NewGuest.
func (f *FS) Mount(device, at string) error { return f.mount(device, f.byDefault(device), at) }

func (f *FS) mount(device, subvolume, at string) error {
	known := func(s guest.Filesystem) bool { return s.Device == device }
	if !slices.ContainsFunc(f.topology.Filesystems, known) {
		return fmt.Errorf("%s: no such file system", device)
	}
	if f.volumes == nil {
		return nil
	}
	volume, ok := f.volumes[device]
	if !ok {
		return fmt.Errorf("%s: holds no files", device)
	}
	root, err := volume.root.below(subvolume)
	if err != nil {
		return err
	}
	if path.Clean(at) == "/" {
		f.root, f.mounted = root, []guest.Mounted{{Device: device, At: "/"}}
		return nil
	}
	n, err := f.at("mount", at, true)
	if err != nil {
		return err
	}
	if !n.info.Mode.IsDir() {
		return failed("mount", at, syscall.ENOTDIR)
	}
	resolved, err := guest.NewView(f).Resolve(at)
	if err != nil {
		return err
	}
	f.mounted, f.covered = append(f.mounted, guest.Mounted{Device: device, At: resolved}), append(f.covered, n)
	n.over = root
	return nil
}

// UnmountAll undoes every Mount.
func (f *FS) UnmountAll() error {
	for _, n := range f.covered {
		n.over = nil
	}
	f.mounted, f.covered, f.root = nil, nil, f.bare
	return nil
}

// Grow cannot: files in memory are on no disk.
func (f *FS) Grow(_ context.Context, r guest.Resize) error {
	return fmt.Errorf("%s: files in memory: %w", r.Disk, errors.ErrUnsupported)
}

// Check finds nothing: files in memory have no structure on a disk.
func (f *FS) Check(_ context.Context, device string) (guest.Health, error) {
	for _, s := range f.topology.Filesystems {
		if s.Device == device {
			return guest.Health{Device: device, Type: s.Type, State: guest.Unchecked, Text: "files in memory"}, nil
		}
	}
	return guest.Health{}, fmt.Errorf("%s: no such file system", device)
}

// Close does nothing: the tree stays to be compared.
func (f *FS) Close() error { return nil }
