package inspect

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// vital are the folders without whose file systems the facts would be wrong:
// kernels, boot loaders and programs.
var vital = []string{"/", "/boot", "/usr"}

// Vital tells whether the guest cannot do without what it mounts at a folder.
func Vital(folder string) bool { return slices.Contains(vital, folder) }

// onDemand are mounted even when fstab leaves it to the user: the guest's
// kernel updates do so too.
var onDemand = append([]string{"/boot/efi", "/efi"}, vital...)

// removable are devices that have no file system of the guest's own.
var removable = regexp.MustCompile(`^/dev/(s?cd|sr|dvd|fd|floppy)`)

// mounts is what the guest mounts from its disks, the root first and folders
// before what is in them.
func (t *files) mounts(f Facts, m machine.Machine, root sight) []Mount {
	var mounts []Mount
	entries := ParseFstab(root.fstab)
	if len(entries) > maxFiles {
		t.problem("/etc/fstab", "more entries than expected, the rest is not read")
	}
	for _, e := range entries[:min(len(entries), maxFiles)] {
		if _, _, tagged := tag(e.Spec); !tagged && !strings.HasPrefix(e.Spec, "/dev/") || removable.MatchString(e.Spec) {
			continue
		}
		if mount, ok := t.mount(f, m, e); ok {
			mounts = append(mounts, mount)
		}
	}
	mounts = t.withRoot(f, mounts, root)
	mounts = append(mounts, t.gptMounts(f, mounts)...)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return cmp.Compare(depth(a.Path), depth(b.Path)) })
	return mounts
}

// mount is what an entry of fstab means.
func (t *files) mount(f Facts, m machine.Machine, e FstabEntry) (Mount, bool) {
	mount := Mount{Path: path.Clean(e.Path), Spec: e.Spec, Type: e.Type, Options: e.Options, Source: fmt.Sprintf("/etc/fstab:%d", e.Line)}
	if e.Type == "swap" || e.Path == "none" || e.Path == "swap" {
		mount.Path = "none"
	} else if !path.IsAbs(e.Path) {
		t.problem(mount.Source, fmt.Sprintf("%q is no absolute path", e.Path))
		return Mount{}, false
	}
	device, ok := f.Resolve(e.Spec, m)
	if fs, holds := f.Filesystem(device); ok && holds {
		t.setDevice(&mount, fs)
	} else if v, found := f.volume(device); ok && found && v.Problem == "" && v.Unsupported == "" { // others have lines of their own
		t.problem(mount.Source, device+" is a volume that was not opened, or holds no file system that is known")
	} else if !ok && strings.HasPrefix(e.Spec, "/dev/md") && len(f.Topology.Volumes) > 0 {
		t.problem(mount.Source, fmt.Sprintf("which array %s is, could not be told", e.Spec))
	}
	return mount, true
}

// setDevice makes a mount one of a file system, if that has what its options name.
func (t *files) setDevice(m *Mount, fs guest.Filesystem) {
	s, ok := subvolumeOf(fs, m.Options)
	if !ok && len(fs.Subvolumes) > 0 {
		t.problem(m.Source, fmt.Sprintf("%s has no subvolume as in %q", fs.Device, m.Options))
		return
	}
	m.Device, m.Subvolume = fs.Device, s.ID
}

// withRoot makes the file system that was found the one at /: inspection knows
// better than a name in fstab.
func (t *files) withRoot(f Facts, mounts []Mount, root sight) []Mount {
	i := slices.IndexFunc(mounts, func(m Mount) bool { return m.Path == "/" })
	if i < 0 {
		fs, _ := f.Filesystem(root.device)
		return append([]Mount{{Device: root.device, Path: "/", Type: fs.Type, Subvolume: root.subvolume.ID, Source: root.evidence}}, mounts...)
	}
	if m := mounts[i]; m.Device != root.device || m.Subvolume != root.subvolume.ID {
		s, _ := f.SubvolumeOf(m)
		is, found := cmp.Or(within(m.Device, s), "not known"), within(root.device, root.subvolume)
		t.problem(m.Source, fmt.Sprintf("%s is %s, but the root file system was found on %s", m.Spec, is, found))
	}
	mounts[i].Device, mounts[i].Subvolume = root.device, root.subvolume.ID
	return mounts
}

// depth orders folders before what is in them, and swap last.
func depth(p string) int {
	switch p {
	case "none":
		return 1 << 20
	case "/":
		return 0
	}
	return strings.Count(p, "/")
}

// mountAll mounts what is below the root. Data that cannot be mounted is a
// problem; without a vital file system there is no use in going on.
func (t *files) mountAll(ctx context.Context, g guest.Guest, f Facts) error {
	done := []string{"/", "none"}
	for _, m := range f.Mounts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if m.Device == "" || slices.Contains(done, m.Path) || m.left() {
			continue
		}
		err := t.mountOne(g, f, m)
		if err != nil && slices.Contains(vital, m.Path) {
			return fmt.Errorf("%w: %s: %s at %s: %w", ErrMount, m.Source, m.Device, m.Path, err)
		}
		if err != nil {
			t.problem(m.Source, fmt.Sprintf("%s at %s: %v", m.Device, m.Path, err))
			continue
		}
		done = append(done, m.Path)
	}
	return nil
}

// left tells of what the guest does not mount by itself.
func (m Mount) left() bool {
	e := FstabEntry{Options: m.Options}
	return e.Has("noauto") && !e.Has("x-systemd.automount") && !slices.Contains(onDemand, m.Path)
}

// mountOne mounts what an engine can.
func (t *files) mountOne(g guest.Guest, f Facts, m Mount) error {
	if fs, ok := f.Filesystem(m.Device); ok && container(fs.Type) != fs.Type {
		return fmt.Errorf("%s", container(fs.Type))
	}
	if e := (FstabEntry{Options: m.Options}); m.Subvolume == 0 && (e.Has("subvol") || e.Has("subvolid")) {
		return fmt.Errorf("its subvolumes are not known")
	}
	return m.put(g, m.Path)
}
