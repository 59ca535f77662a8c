package inspect

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"hyper2kvm/fixers/guest"
)

// subvolumeOf is what a mount with these options shows of a file system: the
// subvolume of that name or ID, else the default one. It is the zero Subvolume for
// what has none, and not ok when the options name one that is not there. The name
// counts before the ID.
//
// Source: btrfs(5), subvol=, subvolid=; Linux fs/btrfs/super.c,
// btrfs_parse_subvol_options and mount_subvol.
func subvolumeOf(fs guest.Filesystem, options string) (found guest.Subvolume, ok bool) {
	e := FstabEntry{Options: options}
	name, named := e.value("subvol")
	number, numbered := e.value("subvolid")
	id, err := strconv.ParseUint(number, 0, 64)
	if id == 0 {
		id = topLevel
	}
	for _, s := range fs.Subvolumes {
		switch {
		case named:
			ok = s.Path == path.Join("/", name)
		case numbered:
			ok = err == nil && s.ID == id
		default:
			ok = s.Default
		}
		if ok {
			return s, true
		}
	}
	return guest.Subvolume{}, !named && !numbered
}

// topLevel is the ID of the subvolume that all others lie in.
const topLevel = 5

// value is an option's value, the last where there are several.
func (e FstabEntry) value(option string) (value string, ok bool) {
	for o := range strings.SplitSeq(e.Options, ",") {
		if name, v, _ := strings.Cut(o, "="); name == option {
			value, ok = v, true
		}
	}
	return value, ok
}

// MountOf is the mount that what stands at a name is on, links resolved; the
// innermost that inspection knows a file system of.
func (f Facts) MountOf(name string) (best Mount, ok bool) {
	for _, m := range f.Mounts {
		within := m.Path == "/" || name == m.Path || strings.HasPrefix(name, m.Path+"/")
		if m.Device != "" && within && len(m.Path) > len(best.Path) {
			best, ok = m, true
		}
	}
	return best, ok
}

// SubvolumeOf is the subvolume that a mount shows; ok is false if that is none.
func (f Facts) SubvolumeOf(m Mount) (s guest.Subvolume, ok bool) {
	fs, _ := f.Filesystem(m.Device)
	s, err := fs.Subvolume(m.Subvolume)
	return s, err == nil
}

// put mounts what a mount is of at a folder.
func (m Mount) put(g guest.Guest, at string) error {
	if m.Subvolume == 0 {
		return g.Mount(m.Device, at)
	}
	return g.MountSubvolume(m.Device, m.Subvolume, at)
}

// within names a subvolume for people as findmnt does: disk0p1[/@home].
func within(device string, s guest.Subvolume) string {
	if s.Path == "" {
		return device
	}
	return fmt.Sprintf("%s[%s]", device, s.Path)
}

// fromTopLevel turns a name that GRUB has from the top level of a btrfs, on which its
// menu is, into that of the guest. Other names stay as they are; those of SUSE's GRUB
// begin at the subvolume.
//
// Source: GRUB's util/grub-mkrelpath.c; SUSE's variable btrfs_relative_path.
func (f Facts) fromTopLevel(config, name string) string {
	on, _ := f.MountOf(config)
	bare := withoutDevice(name)
	at, longest := name, ""
	for _, m := range f.Mounts {
		s, ok := f.SubvolumeOf(m)
		top := strings.TrimSuffix(s.Path, "/")
		rest, below := strings.CutPrefix(bare, top+"/")
		if ok && below && m.Device == on.Device && len(top) >= len(longest) {
			at, longest = path.Join(m.Path, path.Clean("/"+rest)), top
		}
	}
	return at
}
