package main

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hyper2kvm/testers/probe/wire"
)

// mounts are the file systems of block devices, in the order in which they were
// mounted: those of fstab come before those of containers.
// Source: proc_pid_mountinfo(5).
func (s system) mounts() ([]wire.Mount, error) {
	table, err := s.readUpTo("/proc/self/mountinfo", maxMountinfo)
	if err != nil {
		return nil, err
	}
	var found []wire.Mount
	for line := range strings.Lines(string(table)) {
		before, after, ok := strings.Cut(line, " - ")
		f, super := strings.Fields(before), strings.Fields(after)
		if ok && len(f) > 5 && len(super) > 2 && strings.HasPrefix(super[1], "/dev/") && len(found) < maxItems {
			source := unoctal(super[1])
			found = append(found, wire.Mount{Path: cut(unoctal(f[4])), Source: cut(source), Type: cut(super[0]),
				UUID: s.uuid(f[2], source), Subvolume: subvolume(super), ReadOnly: isReadOnly(f[5]) || isReadOnly(super[len(super)-1])})
		}
	}
	return append(found, s.aliases(found)...), nil
}

// aliases are the mounts again that fstab has at a folder of another name:
// systemd resolves symbolic links before it mounts.
func (s system) aliases(mounts []wire.Mount) []wire.Mount {
	table, _ := s.readAll("/etc/fstab") // absent in a guest without one
	var found []wire.Mount
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[1], "/") || len(found) == maxItems {
			continue
		}
		name := path.Clean(unoctal(f[1]))
		real, err := filepath.EvalSymlinks(s.root + name)
		if err != nil || real == s.root+name {
			continue
		}
		for _, m := range slices.Backward(mounts) { // a later mount covers an earlier one
			if s.root+m.Path == real {
				m.Path = cut(name)
				found = append(found, m)
				break
			}
		}
	}
	return found
}

// subvolume is the ID of a btrfs's subvolume, among the options of its mount, which
// are the third field; 0 of other file systems, and before Linux 4.2.
// Source: btrfs(5), subvolid=; Linux fs/btrfs/super.c, btrfs_show_options.
func subvolume(super []string) uint64 {
	if super[0] != "btrfs" {
		return 0
	}
	for o := range strings.SplitSeq(super[2], ",") {
		if id, ok := strings.CutPrefix(o, "subvolid="); ok {
			n, _ := strconv.ParseUint(id, 10, 64) // the kernel's own number
			return n
		}
	}
	return 0
}

// isReadOnly reads the options of a mount or of its file system.
func isReadOnly(options string) bool { return slices.Contains(strings.Split(options, ","), "ro") }

// uuid is a file system's UUID as udev has it of the block device, "" if it has
// none. btrfs has a device number of its own, which is not its disk's.
func (s system) uuid(device, source string) string {
	if strings.HasPrefix(device, "0:") {
		number, err := s.number(source)
		if err != nil {
			return ""
		}
		device = number
	}
	udev, _ := s.readAll("/run/udev/data/b" + device) // absent without udev
	for line := range strings.Lines(string(udev)) {
		if uuid, ok := strings.CutPrefix(line, "E:ID_FS_UUID="); ok {
			return strings.TrimSpace(cut(uuid))
		}
	}
	return ""
}

// number is a block device's major and minor number.
func (s system) number(name string) (string, error) {
	var stat unix.Stat_t
	if err := unix.Stat(s.root+name, &stat); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev)), nil
}

// unoctal undoes what the kernel does to the blanks and backslashes of a name.
var unoctal = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

// swaps are the block devices that are swapped to, other than compressed memory.
// Source: proc_swaps(5).
func (s system) swaps() ([]string, error) {
	table, err := s.readAll("/proc/swaps")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 1 && f[1] == "partition" && !strings.HasPrefix(f[0], "/dev/zram") && len(found) < maxItems {
			found = append(found, cut(unoctal(f[0])))
		}
	}
	return found, nil
}

// remoteTypes are file systems that only a network serves.
// Source: systemd, src/basic/mountpoint-util.c, fstype_is_network.
var remoteTypes = []string{"afs", "ceph", "cifs", "davfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "sshfs"}

// remotes are the mount units of such file systems, of systemctl's properties.
func remotes(shown string) []string {
	var units []string
	for block := range strings.SplitSeq(strings.TrimSpace(shown), "\n\n") {
		var unit, kind string
		for line := range strings.Lines(block) {
			switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
			case "Id":
				unit = value
			case "Type":
				kind = strings.TrimPrefix(value, "fuse.")
			}
		}
		if slices.Contains(remoteTypes, kind) && len(units) < maxItems {
			units = append(units, cut(unit))
		}
	}
	return units
}
