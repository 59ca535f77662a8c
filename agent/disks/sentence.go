package disks

import (
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/agent/api/model"
)

// Types of partitions that tell whose disk it is.
//
// Source: systemd.io/DISCOVERABLE_PARTITIONS; UEFI specification 2.10, table 5.7;
// Microsoft, "Windows and GPT FAQ"; the MBR's types as fdisk lists them.
var (
	windowsKinds = []string{"e3c9e316-0b5c-4db8-817d-f92df00215ae", "de94bba4-06d1-4d40-a16a-bfd50179d6ac", "27"}
	linuxKinds   = []string{"0fc63daf-8483-4772-8e79-3d69d8477de4", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "e6d6d379-f507-44c2-a23c-238f2a3df928", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "83", "82", "8e", "fd"}
	linuxSystems = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "swap", "LVM2_member", "linux_raid_member"}
)

// sentence is what is on a disk, in a few words.
func (c contents) sentence() string {
	switch {
	case c.stuck != "":
		return "not known: " + c.stuck
	case c.empty:
		return "empty"
	case len(c.parts) == 0 && c.table != "":
		return "an empty partition table"
	case len(c.parts) == 0:
		return "something that is not known here"
	case c.parts[0].Number == 0:
		return held(c.parts[0])
	}
	words := counted(len(c.parts), "partition")
	switch {
	case c.has(windowsKinds, nil) || c.table == "mbr" && c.has([]string{"07"}, []string{"ntfs"}):
		return "Windows, " + words
	case c.has(linuxKinds, linuxSystems):
		return "Linux, " + words + c.groups()
	}
	if c.table == "mbr" && len(c.parts) == 1 && c.parts[0].FileSystem != "" { // as USB sticks are sold
		return held(c.parts[0])
	}
	return words + c.groups()
}

// has tells whether a partition is of some kind, or holds some file system.
func (c contents) has(kinds, systems []string) bool {
	return slices.ContainsFunc(c.parts, func(p model.DiskPart) bool {
		return slices.Contains(kinds, p.Kind) || slices.Contains(systems, p.FileSystem)
	})
}

func (c contents) groups() string {
	var names []string
	for _, p := range c.parts {
		if p.Group != "" && !slices.Contains(names, p.Group) {
			names = append(names, p.Group)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ", part of LVM group " + strings.Join(names, ", ")
}

// held is what one part holds.
func held(p model.DiskPart) string {
	switch p.FileSystem {
	case "LVM2_member":
		if p.Group == "" {
			return "part of an LVM group"
		}
		return "part of LVM group " + p.Group
	case "linux_raid_member", "isw_raid_member", "ddf_raid_member":
		return "member of a RAID"
	case "crypto_LUKS":
		return "encrypted by LUKS"
	case "BitLocker":
		return "encrypted by BitLocker"
	case "swap":
		return "swap space"
	}
	text := p.FileSystem + " file system"
	if p.Label != "" {
		text += fmt.Sprintf(" %q", p.Label)
	}
	return text
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
