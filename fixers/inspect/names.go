package inspect

import (
	"regexp"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// Resolve finds the disk, partition or volume that a name in fstab or on a kernel's
// command line means, as the guest saw it on the source's hardware m. It is not ok
// when the name is of another kind (a network share), when nothing has it, or when
// more than one thing could.
func (f Facts) Resolve(spec string, m machine.Machine) (device string, ok bool) {
	for _, a := range f.Aliases {
		if a.Name == spec {
			return a.Device, true
		}
	}
	if key, value, tagged := tag(spec); tagged {
		return only(f.tagged(key, value))
	}
	name, isDevice := strings.CutPrefix(spec, "/dev/")
	if !isDevice {
		return "", false
	}
	if named := f.named(name); len(named) > 0 {
		return only(named)
	}
	h := hardware{f.Topology.Disks, m.Disks, m.NICs}
	if p, ok := strings.CutPrefix(name, "disk/by-path/"); ok {
		return h.byPath(p)
	}
	if p, ok := strings.CutPrefix(name, "disk/by-id/"); ok {
		return h.byID(p)
	}
	return h.kernelName(name)
}

// Unstable tells whether a device name may mean another device, or none, after
// the move to KVM: names made from controllers, serial numbers and the order
// of discovery. Those made from content, by LVM or by md are stable, and so is
// what a disk is called on KVM, by-id/virtio-….
func Unstable(spec string) bool {
	return unstable.MatchString(spec)
}

var unstable = regexp.MustCompile(`^/dev/(disk/by-path/.|disk/by-id/(wwn|scsi|ata|nvme|ide|edd|usb)-|block/\d|(xvd|[shv]d)[a-z]+\d*$|nvme\d+n\d+(p\d+)?$)`)

// Duplicates are the tags, as UUID=…, that more than one file system, swap
// space or partition of the guest has, with the devices that have them.
// Resolve knows none of them. Members of one btrfs, RAID or volume group
// cannot be told from clones of each other and are listed too.
func (f Facts) Duplicates() map[string][]string {
	all := map[string][]string{}
	add := func(key, value, device string) {
		if value != "" {
			all[key+"="+value] = append(all[key+"="+value], device)
		}
	}
	for _, fs := range f.Topology.Filesystems {
		add("UUID", fs.UUID, fs.Device)
	}
	for _, d := range f.Topology.Disks {
		for _, p := range d.Partitions {
			add("PARTUUID", p.UUID, p.Name)
		}
	}
	for t, devices := range all {
		if len(devices) < 2 {
			delete(all, t)
		}
	}
	return all
}

// Stable is a name for a device that survives the move: UUID=… of its file
// system, or PARTUUID=… of its partition. It is not ok when there is none that
// is the guest's only one. For members of a volume group or a RAID udev makes no
// link by UUID.
//
// Source: udev's 60-persistent-storage.rules, ID_FS_USAGE.
func (f Facts) Stable(device string) (spec string, ok bool) {
	if fs, ok := f.Filesystem(device); ok && fs.UUID != "" && !strings.HasSuffix(fs.Type, "_member") && len(f.tagged("UUID", fs.UUID)) == 1 {
		return "UUID=" + fs.UUID, true
	}
	for _, d := range f.Topology.Disks {
		for _, p := range d.Partitions {
			if p.Name == device && p.UUID != "" && len(f.tagged("PARTUUID", p.UUID)) == 1 {
				return "PARTUUID=" + p.UUID, true
			}
		}
	}
	return "", false
}

// tag splits UUID=…, LABEL="…" and their links under /dev/disk.
func tag(spec string) (key, value string, ok bool) {
	for _, key := range []string{"UUID", "LABEL", "PARTUUID", "PARTLABEL"} {
		if v, ok := strings.CutPrefix(spec, key+"="); ok {
			return key, unquote(v), true
		}
		if v, ok := strings.CutPrefix(spec, "/dev/disk/by-"+strings.ToLower(key)+"/"); ok {
			return key, unhex(v), true
		}
	}
	return "", "", false
}

var hexEscape = regexp.MustCompile(`\\x[0-9a-fA-F]{2}`)

// unhex undoes udev's escapes in link names: \x20 for a space.
func unhex(s string) string {
	return hexEscape.ReplaceAllStringFunc(s, func(e string) string {
		n, err := strconv.ParseUint(e[2:], 16, 8)
		if err != nil {
			return e
		}
		return string([]byte{byte(n)})
	})
}

// tagged are the devices that have a tag.
func (f Facts) tagged(key, value string) []string {
	var found []string
	if value == "" {
		return nil
	}
	for _, fs := range f.Topology.Filesystems {
		if key == "UUID" && strings.EqualFold(fs.UUID, value) || key == "LABEL" && fs.Label == value {
			found = append(found, fs.Device)
		}
	}
	for _, d := range f.Topology.Disks {
		for _, p := range d.Partitions {
			if key == "PARTUUID" && strings.EqualFold(p.UUID, value) || key == "PARTLABEL" && p.Label == value {
				found = append(found, p.Name)
			}
		}
	}
	return found
}

func only[T any](found []T) (one T, ok bool) {
	if len(found) != 1 {
		return one, false
	}
	return found[0], true
}
