package guest

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestADiskIsPutToUseByWhatIsAtItsEnd(t *testing.T) {
	mbr := func(to int64, parts ...Partition) Disk {
		return Disk{Name: "disk0", Size: to, Table: "mbr", ID: "deadbe01", Partitions: parts}
	}
	gpt := func(usable, backup, to int64, parts ...Partition) Disk {
		return Disk{Name: "disk0", Size: to, Table: "gpt", ID: "g", Partitions: parts, Usable: usable, Backup: backup}
	}
	part := func(n int, start, end int64, kind string) Partition {
		return Partition{Name: "disk0p" + string(rune('0'+n)), Number: n, UUID: "u", Start: start, Size: end - start, Type: kind}
	}
	one, two := part(1, mib, 10*gib, "83"), part(2, 10*gib, 20*gib, "83")
	grown := []GrownPartition{{"disk0p2", 2, "u", 20 * gib, 30 * gib}}
	shortOf := func(list []GrownPartition, short int64) []GrownPartition {
		return []GrownPartition{{list[0].Name, list[0].Number, list[0].UUID, list[0].From, list[0].To - short}}
	}
	clean := []Health{{Device: "disk0p2", State: Clean}, {Device: "disk0p6", State: Clean}, {Device: "disk0", State: Clean}}
	on := func(device, kind string, size, span int64) Filesystem {
		return Filesystem{Device: device, Type: kind, UUID: "f", Size: size, Span: span}
	}
	end := int64(20 * gib)
	for _, test := range []struct {
		name    string
		disk    Disk
		holds   Filesystem
		checked []Health
		want    Resize // without what every one of them has
		unused  string
	}{
		{"ext4 on an MBR", mbr(30*gib, one, two), on("disk0p2", "ext4", 10*gib, 10*gib), clean,
			Resize{Partitions: grown, Filesystem: &GrownFilesystem{"disk0p2", "ext4", "f", 10 * gib, 20 * gib}}, ""},
		{"XFS on a GPT", gpt(end-33*sector, end-sector, 30*gib, one, two), on("disk0p2", "xfs", 10*gib, 10*gib), clean,
			Resize{Backup: true, Partitions: shortOf(grown, mib), Filesystem: &GrownFilesystem{"disk0p2", "xfs", "f", 10 * gib, 20*gib - mib}}, ""},
		{"a GPT that was extended before", gpt(30*gib-33*sector, 30*gib-sector, 30*gib, one, two), on("disk0p2", "xfs", 10*gib, 10*gib), clean,
			Resize{Partitions: shortOf(grown, mib), Filesystem: &GrownFilesystem{"disk0p2", "xfs", "f", 10 * gib, 20*gib - mib}}, ""},
		{"a mixed GPT", gpt(0, 0, 30*gib, one, two), on("disk0p2", "ext4", 10*gib, 10*gib), clean, Resize{}, "no plain GPT"},
		{"a logical one", mbr(30*gib, one, part(2, 10*gib, 20*gib, "0f"), part(5, 11*gib, 12*gib, "82"), part(6, 12*gib, 19*gib, "83")), on("disk0p6", "ext3", 7*gib, 7*gib), clean,
			Resize{Partitions: append(grown[:1:1], GrownPartition{"disk0p6", 6, "u", 19 * gib, 30 * gib}), Filesystem: &GrownFilesystem{"disk0p6", "ext3", "f", 7 * gib, 18 * gib}}, ""},
		{"an empty extended one", mbr(30*gib, one, part(2, 10*gib, 20*gib, "05")), on("disk0p1", "ext4", 10*gib, 10*gib), clean, Resize{}, "with nothing in it"},
		{"a logical one over the end", mbr(30*gib, part(1, mib, 20*gib, "05"), part(5, 11*gib, 21*gib, "83")), on("disk0p5", "ext4", 10*gib, 10*gib), clean, Resize{}, "reaches over the end"},
		{"a whole disk", Disk{Name: "disk0", Size: 30 * gib}, on("disk0", "ext4", 30*gib, 20*gib), clean,
			Resize{Filesystem: &GrownFilesystem{"disk0", "ext4", "f", 20 * gib, 30 * gib}}, ""},
		{"a blank disk", Disk{Name: "disk0", Size: 30 * gib}, Filesystem{}, clean, Resize{}, "what is on disk0 is not known"},
		{"a table alone", mbr(30 * gib), Filesystem{}, clean, Resize{}, "no partition"},
		{"swap", gpt(end-33*sector, end-sector, 30*gib, one, two), on("disk0p2", "swap", 10*gib, 0), clean, Resize{Backup: true}, "disk0p2 is swap space"},
		{"LVM of no group", mbr(30*gib, one, two), on("disk0p2", LVMMember, 10*gib, 0), clean, Resize{Partitions: grown}, "a physical volume of no volume group"},
		{"LUKS", mbr(30*gib, one, two), on("disk0p2", "crypto_LUKS", 10*gib, 0), clean, Resize{Partitions: grown}, "encrypted"},
		{"btrfs", mbr(30*gib, one, two), on("disk0p2", "btrfs", 10*gib, 10*gib), clean,
			Resize{Partitions: grown, Filesystem: &GrownFilesystem{"disk0p2", "btrfs", "f", 10 * gib, 20 * gib}}, ""},
		{"btrfs on several devices", mbr(30*gib, one, two), on("disk0p2", "btrfs", 10*gib, 0), clean, Resize{Partitions: grown}, "several devices"},
		{"btrfs that is damaged", mbr(30*gib, one, two), on("disk0p2", "btrfs", 10*gib, 10*gib), []Health{{Device: "disk0p2", State: Damaged, Text: "bad"}}, Resize{}, "is damaged: bad"},
		{"NTFS", mbr(30*gib, one, two), on("disk0p2", "ntfs", 10*gib, 0), clean, Resize{}, "Windows"},
		{"FAT", mbr(30*gib, one, two), on("disk0p2", "vfat", 10*gib, 0), clean, Resize{}, "vfat, which is not grown"},
		{"software RAID, which keeps its notes at the end", mbr(30*gib, one, two), on("disk0p2", "linux_raid_member", 10*gib, 0), clean, Resize{}, "linux_raid_member"},
		{"nothing that is known", mbr(30*gib, one, two), Filesystem{}, clean, Resize{}, "is not known"},
		{"a damaged file system", mbr(30*gib, one, two), on("disk0p2", "ext4", 10*gib, 10*gib), []Health{{Device: "disk0p2", State: Damaged, Text: "bad"}}, Resize{}, "is damaged: bad"},
		{"one that was not checked", mbr(30*gib, one, two), on("disk0p2", "ext4", 10*gib, 10*gib), nil, Resize{}, "was not checked"},
		{"more than an MBR can name", mbr(3<<40, one, two), on("disk0p2", "xfs", 10*gib, 10*gib), clean,
			Resize{Partitions: []GrownPartition{{"disk0p2", 2, "u", 20 * gib, 2<<40 - mib}}, Filesystem: &GrownFilesystem{"disk0p2", "xfs", "f", 10 * gib, 2<<40 - mib - 10*gib}}, "behind 2 TiB"},
		{"more than ext can have", gpt(end-33*sector, end-sector, 17<<40, one, two), on("disk0p2", "ext4", 10*gib, 10*gib), clean, Resize{Backup: true}, "beyond 16 TiB"},
		{"a file system smaller than its partition", mbr(20*gib, one, two), on("disk0p2", "ext4", 10*gib, 5*gib), clean,
			Resize{Filesystem: &GrownFilesystem{"disk0p2", "ext4", "f", 5 * gib, 10 * gib}}, ""},
		{"one that left a little", mbr(20*gib, one, two), on("disk0p2", "ext4", 10*gib, 10*gib-mib), clean, Resize{}, "too little"},
		{"less than is rounded away", mbr(20*gib+sector, one, two), on("disk0p2", "ext4", 10*gib, 10*gib), clean, Resize{}, "too little"},
	} {
		top := Topology{Disks: []Disk{test.disk}, Filesystems: []Filesystem{test.holds}}
		got := top.PlanResize("disk0", Enlarged{From: 20 * gib, Checked: test.checked})
		if !strings.Contains(got.Unused, test.unused) || (got.Unused == "") != (test.unused == "") {
			t.Errorf("%s: unused: %q, want %q", test.name, got.Unused, test.unused)
		}
		test.want.Disk, test.want.ID, test.want.From, test.want.To = "disk0", test.disk.ID, 20*gib, test.disk.Size
		got.Unused, got.Try = "", ""
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestASpanIsWhatTheSuperblockSays(t *testing.T) {
	ext := make([]byte, SuperblockSize)
	binary.LittleEndian.PutUint16(ext[1024+56:], 0xef53)
	binary.LittleEndian.PutUint32(ext[1024+4:], 1000)
	binary.LittleEndian.PutUint32(ext[1024+24:], 2)
	binary.LittleEndian.PutUint32(ext[1024+336:], 1) // means nothing without the feature
	large := append([]byte{}, ext...)
	large[1024+96] = 0x80
	xfs := make([]byte, SuperblockSize)
	copy(xfs, "XFSB\x00\x00\x10\x00\x00\x00\x00\x01")
	hostile := append([]byte{}, ext...)
	hostile[1024+24] = 200
	endless := append([]byte{}, xfs...)
	copy(endless[8:], "\xff\xff\xff\xff")
	for _, test := range []struct {
		name, fstype string
		head         []byte
		want         int64
	}{
		{"ext4", "ext4", ext, 1000 << 12},
		{"ext4 of more than 32 bits", "ext4", large, (1<<32 + 1000) << 12},
		{"XFS", "xfs", xfs, 1 << 44},
		{"blocks of no size", "ext2", hostile, 0},
		{"more than any disk", "xfs", endless, 0},
		{"no superblock", "ext4", make([]byte, SuperblockSize), 0},
		{"a device too small", "ext4", ext[:1500], 0},
		{"what has none", "swap", ext, 0},
	} {
		top := Topology{Filesystems: []Filesystem{{Device: "disk0", Type: test.fstype, Size: int64(len(test.head))}}}
		err := top.ReadSpans(func(string) io.ReaderAt { return strings.NewReader(string(test.head)) })
		if got := top.Filesystems[0].Span; err != nil || got != test.want {
			t.Errorf("%s: span %d, %v, want %d", test.name, got, err, test.want)
		}
	}
}
