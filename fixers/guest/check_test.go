package guest

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// What checkers said of real file systems: e2fsck 1.47.0, xfs_repair 6.1.0,
// btrfs-progs 6.2, fsck.fat 4.2.
const (
	extDamaged = `e2fsck 1.47.0 (5-Feb-2023)
Pass 1: Checking inodes, blocks, and sizes
Pass 2: Checking directory structure
Entry 'd3' in / (2) has deleted/unused inode 1970.  Clear? no

Entry 'd3' in / (2) has an incorrect filetype (was 2, should be 0).
Fix? no

Pass 3: Checking directory connectivity
Pass 4: Checking reference counts
Inode 2 ref count is 11, should be 10.  Fix? no

Unattached inode 15
Connect to /lost+found? no


/dev/sdd: ********** WARNING: Filesystem still has errors **********

/dev/sdd: 27/25584 files (0.0% non-contiguous), 12097/102400 blocks
`
	xfsDamaged = `Phase 1 - find and verify superblock...
Phase 2 - using internal log
        - zero log...
        - scan filesystem freespace and inode maps...
sb_icount 7777, counted 256
        - found root inode chunk
Phase 3 - for each AG...
        - agno = 0
No modify flag set, skipping phase 5
No modify flag set, skipping filesystem flush and exiting.
`
	xfsMemory = `Phase 1 - find and verify superblock...
Required memory for repair is greater that the maximum specified
with the -m option. Please increase it to at least 48.
`
	btrfsDamaged = `Opening filesystem to check...
Checking filesystem on b2.raw
UUID: 03cbd9fa-2b02-474f-ba31-6552f3c68f1e
checksum verify failed on 30539776 wanted 0x4a69c764 found 0xd033c453
checksum verify failed on 30539776 wanted 0x4a69c764 found 0xd033c453
Csum didn't match
[1/7] checking root items
[2/7] checking extents
checksum verify failed on 30539776 wanted 0x4a69c764 found 0xd033c453
ERROR: errors found in extent allocation tree or chunk allocation
[3/7] checking free space tree
found 147456 bytes used, error(s) found
total csum bytes: 0
btree space waste bytes: 92366
file data blocks allocated: 0
 referenced 0
`
	fatDamaged = `fsck.fat 4.2 (2021-01-31)
/A.TXT
  File size is 2614 bytes, cluster chain length is 0 bytes.
  Truncating file to 0 bytes.

Leaving filesystem unchanged.
v2.raw: 2 files, 2/20431 clusters
`
	fatDirty = `fsck.fat 4.2 (2021-01-31)
There are differences between boot sector and its backup.
This is mostly harmless. Differences: (offset:original/backup)
  65:01/00
  Not automatically fixing this.
Dirty bit is set. Fs was not properly unmounted and some data may be corrupt.
 Automatically removing dirty bit.
Free cluster summary wrong (153295 vs. really 153287)
  Auto-correcting.

Leaving filesystem unchanged.
/dev/sdd: 16 files, 9/153296 clusters
`
)

func TestWhatACheckerSaysIsJudged(t *testing.T) {
	for _, c := range []struct {
		name, fstype string
		exit         int
		said         string
		want         Condition
		text         string // that it must have
	}{
		{"clean", "ext4", 0, "e2fsck 1.47.0 (5-Feb-2023)\n/dev/sdd: 11/25584 files (0.0% non-contiguous), 12081/102400 blocks\n", Clean, ""},
		{"damaged", "ext3", 4, extDamaged, Damaged, "e2fsck: Entry 'd3' in / (2) has deleted/unused inode 1970.  Clear? no; Entry 'd3' in / (2) has an incorrect filetype (was 2, should be 0).; Inode 2 ref count is 11, should be 10.  Fix? no"},
		{"damaged, silently", "ext4", 4, "", Damaged, "e2fsck: "},
		{"damaged beyond reading", "ext4", 12, extDamaged, Damaged, "e2fsck: Entry"},
		{"not readable", "ext4", 8, "e2fsck: Bad magic number in super-block while trying to open /dev/x\n", Unchecked, "Bad magic number"},
		{"clean", "xfs", 0, "Phase 1 - find and verify superblock...\n", Clean, ""},
		{"damaged", "xfs", 1, xfsDamaged, Damaged, "xfs_repair: sb_icount 7777, counted 256"},
		{"no memory", "xfs", 1, xfsMemory, Unchecked, "Required memory"},
		{"newer", "xfs", 1, "Superblock has unknown incompat features (0x80).\nFound unsupported filesystem features.  Exiting now.\n", Unchecked, "unknown incompat"},
		{"journal", "xfs", 1, "ALERT: The filesystem has valuable metadata changes in a log which is being\nignored because the -n option was used.\n", Unchecked, "valuable metadata"},
		{"journal", "ext4", 4, "Warning: skipping journal recovery because doing a read-only filesystem check.\nRoot inode is not a directory.  Clear? no\n", Unchecked, "skipping journal"},
		{"killed", "xfs", 137, "", Unchecked, "xfs_repair"},
		{"clean", "btrfs", 0, "[1/7] checking root items\n", Clean, ""},
		{"damaged", "btrfs", 1, btrfsDamaged, Damaged, "btrfs: checksum verify failed on 30539776 wanted 0x4a69c764 found 0xd033c453; Csum didn't match; ERROR: errors found in extent allocation tree"},
		{"lacks a disk", "btrfs", 1, "warning, device 2 is missing\n", Unchecked, "device 2 is missing"},
		{"damaged", "vfat", 1, fatDamaged, Damaged, "/A.TXT; File size is 2614 bytes"},
		{"in use", "vfat", 1, fatDirty, Clean, ""},
		{"clean", "vfat", 0, "fsck.fat 4.2 (2021-01-31)\n", Clean, ""},
		{"not one", "vfat", 2, "Logical sector size is zero.\n", Unchecked, "Logical sector size"},
	} {
		checker, _, ok := CheckerFor(Filesystem{Type: c.fstype})
		if !ok {
			t.Fatalf("%s has no checker", c.fstype)
		}
		got, text := checker.Judge(c.exit, c.said)
		if got != c.want || !strings.Contains(text, c.text) || (text == "") != (got == Clean) {
			t.Errorf("%s %s: Judge = %s, %q, want %s, %q", c.name, c.fstype, got, text, c.want, c.text)
		}
	}
}

func TestWhatACheckerSaysIsBounded(t *testing.T) {
	checker, _, _ := CheckerFor(Filesystem{Type: "ext4"})
	var said strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&said, "%d %s\n", i, strings.Repeat("ü", 1000))
	}
	if _, text := checker.Judge(4, said.String()); len(text) > 1000 {
		t.Errorf("%d bytes are kept", len(text))
	}
}

func TestWhatIsNotCheckedSaysWhy(t *testing.T) {
	for fstype, want := range map[string]string{"ntfs": "chkdsk", "reiserfs": "no checker is known", "swap": "no checker is known"} {
		if _, h, ok := CheckerFor(Filesystem{Device: "disk0p1", Type: fstype}); ok || h.State != Unchecked || !strings.Contains(h.Text, want) || h.Device != "disk0p1" {
			t.Errorf("%s: %+v, %v", fstype, h, ok)
		}
	}
}

func TestAFileSystemThatIsNotMountedIsNeverClean(t *testing.T) {
	for _, c := range []struct {
		state Condition
		err   error
		want  Condition
	}{
		{Clean, nil, Clean},
		{Damaged, nil, Damaged},
		{Clean, syscall.EINVAL, Unchecked},
		{Unchecked, syscall.EINVAL, Unchecked},
		{Damaged, syscall.EINVAL, Damaged},
		{Unchecked, fmt.Errorf("mount: %w", syscall.EUCLEAN), Damaged},
		{Clean, fmt.Errorf("mount: %w", syscall.EBADMSG), Damaged},
		{Clean, errors.New("mount: Structure needs cleaning."), Damaged},
	} {
		if got := (Health{State: c.state}).Mounted(c.err); got.State != c.want || (got.Text == "") != (c.err == nil) {
			t.Errorf("%s, %v: %+v, want %s", c.state, c.err, got, c.want)
		}
	}
}
