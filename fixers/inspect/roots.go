package inspect

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// rootTypes are the file systems that an operating system may be installed on.
var rootTypes = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "reiserfs", "nilfs2", "ntfs"}

// Partition types as GPT GUIDs, and the MBR's byte for an EFI system partition.
const (
	espGUID      = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	espByte      = "ef"
	biosBootGUID = "21686148-6449-6e6f-744e-656564454649"
)

// sight is what was seen on one file system, or on a subvolume of it, while it was
// mounted alone.
type sight struct {
	device    string
	subvolume guest.Subvolume // of a btrfs whose subvolumes are known
	note      string          // for people, when nothing usable was seen
	family    string          // of the operating system installed on it, or ""
	evidence  string          // the file that tells so
	fstab     []byte          // its /etc/fstab
	listed    bool            // has an /etc/fstab
	flags     string          // with which its boot loader has the root mounted
	loaders   []string        // EFI programs on an EFI system partition
}

// survey mounts every file system alone and looks what it is. The subvolumes of a
// btrfs are looked into unless the default one is a root by its own word.
func survey(ctx context.Context, g guest.Guest, f Facts, m machine.Machine) ([]sight, error) {
	var seen []sight
	menus := slices.ContainsFunc(f.Topology.Filesystems, layered)
	for _, fs := range f.Topology.Filesystems {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		isESP := f.IsESP(fs.Device)
		if !isESP && !slices.Contains(rootTypes, fs.Type) {
			seen = append(seen, sight{device: fs.Device, note: f.held(fs)})
			continue
		}
		s, err := look(g, fs, isESP, menus)
		if err != nil {
			return nil, err
		}
		seen = append(seen, s)
		if !layered(fs) || f.namesItself(m, s) {
			continue
		}
		more, err := beneath(g, fs)
		if err != nil {
			return nil, err
		}
		seen = append(seen, more...)
	}
	for _, v := range f.Topology.Volumes {
		if v.Problem != "" || v.Unsupported != "" {
			seen = append(seen, sight{device: v.Name, note: unopened(v)})
		}
	}
	return seen, nil
}

// held says of a file system that was not looked into what it is.
func (f Facts) held(fs guest.Filesystem) string {
	if volume, ok := f.within(fs.Device); ok && fs.Type == guest.ArrayMember {
		return fs.Type + " of " + volume
	} else if ok {
		return fs.Type
	}
	return container(fs.Type)
}

// container says of a type why it was not looked into.
func container(fsType string) string {
	switch {
	case fsType == "crypto_LUKS" || fsType == "BitLocker":
		return fsType + ", encrypted and not opened"
	case external[fsType] != "":
		return fmt.Sprintf("%s, RAID of %s, which is not assembled", fsType, external[fsType])
	case strings.HasSuffix(fsType, "_member"):
		return fsType + ", not assembled"
	}
	return fsType
}

// external are members of arrays whose metadata md leaves to the firmware of a RAID
// controller, by blkid's names.
//
// Source: mdadm(8), --metadata; libblkid src/superblocks/isw_raid.c, ddf_raid.c.
var external = map[string]string{"isw_raid_member": "Intel's firmware (IMSM)", "ddf_raid_member": "a controller (DDF)"}

// look mounts one file system, reads its signs, and if they are of use the menus of
// boot loaders, and unmounts it. Only an engine that does not unmount is an error.
func look(g guest.Guest, fs guest.Filesystem, isESP, menus bool) (s sight, err error) {
	s = sight{device: fs.Device, note: fs.Type}
	s.subvolume, _ = subvolumeOf(fs, "")
	if err := g.Mount(fs.Device, "/"); err != nil {
		s.note = fmt.Sprintf("%s, not mounted: %v", fs.Type, err)
		return s, nil
	}
	defer func() { err = errors.Join(err, g.UnmountAll()) }()
	t := openFiles(g)
	switch {
	case isESP:
		s.loaders = t.efiPrograms("/")
	case fs.Type == "ntfs":
		s.evidence = t.windows()
		s.family = family(s.evidence, Windows)
	default:
		if t.asRoot(&s); fs.Type == "btrfs" && s.family == "" {
			s.note += t.rootFolders(fs)
		}
	}
	if menus {
		s.flags = menusOf(g, s).rootFlags()
	}
	for _, p := range t.problems {
		s.note += fmt.Sprintf(", %s: %s", p.Source, p.Value)
	}
	return s, nil
}

func family(evidence, name string) string {
	if evidence == "" {
		return ""
	}
	return name
}

// linuxRoot is the file that shows a Linux installation, or "". Only names are
// looked at: what they lead to may be on another file system, as with /usr.
func (t *files) linuxRoot() string {
	if !t.stands("/sbin/init") && !t.stands("/lib/modules") && !t.stands("/usr/sbin/init") && !t.links("/sbin") {
		return ""
	}
	for _, r := range releases {
		if t.stands(r.file) {
			return r.file
		}
	}
	return ""
}

func (t *files) links(name string) bool {
	_, err := t.Readlink(name)
	return err == nil
}

// windows is the folder that shows a Windows installation, or "".
func (t *files) windows() string {
	dir := t.fold("/", "Windows")
	if dir == "" {
		return ""
	}
	return t.fold(dir, "System32")
}

// fold finds an entry whatever its letters' case, as FAT and NTFS do; "" if
// there is none.
func (t *files) fold(dir, name string) string {
	list, err := t.ReadDir(dir)
	if !t.note(dir, err) {
		return ""
	}
	for _, info := range list {
		if strings.EqualFold(info.Name, name) && safeName(info.Name) {
			return path.Join(dir, info.Name)
		}
	}
	return ""
}

// rootFolders names the folders of a btrfs that look like a root, and are none of
// the subvolumes that are known.
func (t *files) rootFolders(fs guest.Filesystem) string {
	text := ""
	for _, f := range t.glob("/*/etc/fstab") {
		dir := path.Dir(path.Dir(f))
		if !slices.ContainsFunc(fs.Subvolumes, func(s guest.Subvolume) bool { return s.Path == dir }) {
			text += fmt.Sprintf(", its folder %s looks like a root but is not known to be a subvolume", dir)
		}
	}
	return text
}

// choose picks the root of those seen: one with an fstab before one without,
// and of several the one that is known to start.
func choose(f Facts, m machine.Machine, seen []sight) (sight, error) {
	roots := keep(seen, func(s sight) bool { return s.family != "" })
	if listed := keep(roots, func(s sight) bool { return s.listed || s.family == Windows }); len(listed) > 0 {
		roots = listed
	}
	if len(roots) > 1 {
		if one, ok := f.decide(m, roots, seen); ok && !mixedFamilies(roots) {
			return one, nil
		}
		return sight{}, fmt.Errorf("%w: %s", ErrManyRoots, describe(roots))
	}
	if len(roots) == 0 {
		return sight{}, fmt.Errorf("%w: %s", ErrNoOS, describe(seen))
	}
	return roots[0], nil
}

func keep(all []sight, want func(sight) bool) []sight {
	return slices.DeleteFunc(slices.Clone(all), func(s sight) bool { return !want(s) })
}

// mixedFamilies tells of a guest that starts Linux or Windows.
func mixedFamilies(roots []sight) bool {
	return slices.ContainsFunc(roots, func(s sight) bool { return s.family != roots[0].family })
}

// namesItself tells whether the fstab of a root names that as the root.
func (f Facts) namesItself(m machine.Machine, s sight) bool {
	fs, _ := f.Filesystem(s.device)
	for _, e := range ParseFstab(s.fstab) {
		if path.Clean(e.Path) == "/" {
			device, ok := f.Resolve(e.Spec, m)
			v, known := subvolumeOf(fs, e.Options)
			return ok && known && s.family != "" && device == s.device && v.ID == s.subvolume.ID
		}
	}
	return false
}

// describe lists for people what was seen where.
func describe(seen []sight) string {
	if len(seen) == 0 {
		return "the disks hold no file systems"
	}
	var parts []string
	for _, s := range seen {
		text := s.device + " " + s.note
		if s.family != "" {
			text = within(s.device, s.subvolume) + " " + s.note
		}
		if s.family != "" {
			text += " (" + s.family + ": " + s.evidence + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// IsESP tells whether a device is an EFI system partition by its type.
func (f Facts) IsESP(device string) bool {
	for _, d := range f.Topology.Disks {
		for _, p := range d.Partitions {
			if p.Name == device {
				return p.Type == espGUID || p.Type == espByte
			}
		}
	}
	return false
}
