package disks

import (
	"testing"

	"hyper2kvm/agent/api/model"
)

func TestWhatIsOnADiskIsSaidInAFewWords(t *testing.T) {
	part := func(n int, kind, system, label string) model.DiskPart {
		return model.DiskPart{Number: n, Kind: kind, FileSystem: system, Label: label}
	}
	for want, c := range map[string]contents{
		"empty":                                            {empty: true},
		"not known: input/output error":                    {stuck: "input/output error"},
		"something that is not known here":                 {},
		"an empty partition table":                         {table: "gpt"},
		"Windows, 3 partitions":                            {table: "gpt", parts: []model.DiskPart{part(1, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "vfat", ""), part(2, windowsKinds[0], "", ""), part(3, "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "ntfs", "")}},
		"Windows, 1 partition":                             {table: "mbr", parts: []model.DiskPart{part(1, "07", "ntfs", "System")}},
		"Linux, 2 partitions":                              {table: "mbr", parts: []model.DiskPart{part(1, "83", "ext4", ""), part(2, "82", "swap", "")}},
		"Linux, 2 partitions, part of LVM group debian-vg": {table: "gpt", parts: []model.DiskPart{part(1, "", "ext4", ""), {Number: 2, FileSystem: "LVM2_member", Group: "debian-vg"}}},
		`ext4 file system "migrated"`:                      {parts: []model.DiskPart{part(0, "", "ext4", "migrated")}},
		`vfat file system "STICK"`:                         {table: "mbr", parts: []model.DiskPart{part(1, "0c", "vfat", "STICK")}},
		"part of LVM group x":                              {parts: []model.DiskPart{{FileSystem: "LVM2_member", Group: "x"}}},
		"member of a RAID":                                 {parts: []model.DiskPart{part(0, "", "linux_raid_member", "")}},
		"encrypted by LUKS":                                {parts: []model.DiskPart{part(0, "", "crypto_LUKS", "")}},
		`ext4 file system "\x1b[31m"`:                      {parts: []model.DiskPart{part(0, "", "ext4", "\x1b[31m")}},
	} {
		if got := c.sentence(); got != want {
			t.Errorf("sentence() = %q, want %q", got, want)
		}
	}
}
