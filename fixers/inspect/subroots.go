package inspect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// beneath looks into the subvolumes of a btrfs beside that which was seen already,
// all of them through the top level. A read-only one is the snapshot of a root, and
// none itself, unless it is the default.
func beneath(g guest.Guest, fs guest.Filesystem) (seen []sight, err error) {
	if err := g.MountSubvolume(fs.Device, topLevel, "/"); err != nil {
		return []sight{{device: fs.Device, note: fmt.Sprintf("its subvolumes could not be looked into: %v", err)}}, nil
	}
	defer func() { err = errors.Join(err, g.UnmountAll()) }()
	for _, s := range fs.Subvolumes {
		if s.Default || s.ReadOnly {
			continue
		}
		if len(seen) == maxFiles {
			return append(seen, sight{device: fs.Device, note: "more subvolumes with a system than expected"}), nil
		}
		t := openFiles(moved{g, "", strings.TrimSuffix(s.Path, "/")})
		found := sight{device: fs.Device, subvolume: s, note: fs.Type}
		if t.asRoot(&found); found.family != "" {
			found.flags = t.rootFlags()
			seen = append(seen, found)
		}
	}
	return seen, nil
}

// asRoot reads what tells that a file system is the root of a Linux guest.
func (t *files) asRoot(s *sight) {
	s.evidence = t.linuxRoot()
	s.family = family(s.evidence, Linux)
	s.fstab, s.listed = t.read("/etc/fstab", maxConfig)
}

// layered tells whether a file system has subvolumes beside its default one.
func layered(fs guest.Filesystem) bool { return len(fs.Subvolumes) > 1 }

// menusOf are the files in which the boot loader of a file system has its menu: those
// of a root, or those that are at /boot in the guest.
func menusOf(g guest.Reader, s sight) *files {
	if s.family == Linux {
		return openFiles(g)
	}
	return openFiles(moved{g, "/boot", ""})
}

// rootFlags is how the boot loader whose menu is on a file system has the kernel
// mount its root: the default entry's argument rootflags=.
//
// Source: Linux Documentation/admin-guide, rootflags=; GRUB's 10_linux.
func (t *files) rootFlags() string {
	f := Facts{}
	esps := t.espFolders(f)
	f.Bootloaders = t.bootloaders(esps)
	for _, o := range t.entries(f, esps) {
		if o.chosen {
			return argument(o.options, "rootflags")
		}
	}
	return ""
}

// argument is the value of a kernel's argument, the last where it is given twice.
func argument(options, key string) (value string) {
	for word := range strings.FieldsSeq(options) {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			value = unquote(v)
		}
	}
	return value
}

// decide picks of several roots the one that starts: whose fstab names itself as the
// root, which the boot loader names, or, where neither says anything, which is
// mounted by default. Snapshots and copies have the files of what they were taken of,
// and so name that.
func (f Facts) decide(m machine.Machine, roots, seen []sight) (sight, bool) {
	own := keep(roots, func(s sight) bool { return f.namesItself(m, s) })
	if len(own) > 0 {
		roots = own
	}
	started := keep(roots, func(s sight) bool { return f.starts(s, seen) })
	if one, ok := only(started); ok && len(own) != 1 {
		return one, true
	}
	if len(own) == 0 && len(started) == 0 && !slices.ContainsFunc(roots, func(s sight) bool { return s.device != roots[0].device }) {
		return only(keep(roots, func(s sight) bool { return s.subvolume.Default }))
	}
	return only(own)
}

// starts tells whether the menu of a boot loader names a subvolume as the root: its
// own, or one on a file system that is no root.
func (f Facts) starts(root sight, seen []sight) bool {
	fs, _ := f.Filesystem(root.device)
	for _, s := range seen {
		own := s.device == root.device && s.subvolume.ID == root.subvolume.ID
		if s.flags == "" || !own && s.family != "" {
			continue
		}
		if v, ok := subvolumeOf(fs, s.flags); ok && v.ID == root.subvolume.ID && v.ID != 0 {
			return true
		}
	}
	return false
}
