package guesttest

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/gob"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// arrayDisks are the disks of Arrays, in gob and gzip, as BlankArrays, ArrayScript
// and KeepArrays made them.
//
//go:embed testdata/arrays.gob.gz
var arrayDisks []byte

// Arrays makes the disks of a guest with arrays in a folder of the test, four with
// a partition for each array, and two that are members as a whole:
//
//	md/root    RAID 1 of disk0 and disk1, with a bitmap: ext4
//	md/stripes RAID 0 of disk0 and disk1, of equal size: ext2
//	md/3       RAID 1 of disk0 and disk1, version 0.90: swap
//	md/five    RAID 5 of disk0 to disk2, version 1.1: ext4
//	md/joined  linear, of disk0 and disk1, version 1.0: ext2
//	md/ten     RAID 10 of all four: ext4
//	md/pv      RAID 1 of disk0 and disk1, with the group md-vg on it: its volume data
//	           in one piece and wide in two, both ext4
//	md/worn    RAID 1 of disk0, and of disk1 that fell out: ext2
//	md/six     RAID 6 of all four: ext2
//	md/zones   RAID 0 of disk0 and disk1, of which the second is larger: ext2
//	md/lost    RAID 0 of disk2 and another that is gone: nothing to be read
//	md/whole   RAID 1 of disk4 and disk5, version 1.0, with partitions on it
//	md/outer   RAID 0 of md/left and md/right, RAID 1 of disk2 and disk3: ext4
//
// mdadm 4.2, LVM 2.03.16 and e2fsprogs 1.47 made them.
func Arrays(t testing.TB) []string {
	t.Helper()
	return keptArrays.files(t)
}

var keptArrays = kept{name: "arrays", make: unpackArrays}

func unpackArrays(t testing.TB) (names []string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(arrayDisks))
	if err != nil {
		t.Fatal(err)
	}
	var disks []sparseData
	if err := gob.NewDecoder(z).Decode(&disks); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range disks {
		name := filepath.Join(dir, d.Name)
		d.write(t, name)
		names = append(names, name)
	}
	return names
}

// KeepArrays writes disks as the test data that Arrays reads.
func KeepArrays(t testing.TB, disks []string, file string) {
	t.Helper()
	var all []sparseData
	for _, name := range disks {
		all = append(all, readSparse(t, name))
	}
	var data bytes.Buffer
	z, err := gzip.NewWriterLevel(&data, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if err := gob.NewEncoder(z).Encode(all); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// BlankArrays makes the disks on which ArrayScript makes the arrays.
func BlankArrays(t testing.TB) (disks []string) {
	t.Helper()
	dir := t.TempDir()
	const mib = 1 << 20
	for i, sizes := range [][]int{
		{12, 12, 12, 12, 12, 12, 20, 12, 12, 12}, {12, 12, 12, 12, 12, 12, 20, 12, 12, 20},
		{12, 12, 12, 12, 12, 12}, {12, 12, 12, 12, 12, 12},
	} {
		name := filepath.Join(dir, fmt.Sprintf("array%d.raw", i))
		sparse(t, name, 160*mib)
		table := fmt.Sprintf("label: gpt\nlabel-id: 0C7D5E1A-0000-4000-8000-0000000000B%d\n", i)
		for j, size := range sizes {
			table += fmt.Sprintf("size=%dMiB, type=raid, uuid=0C7D5E1A-0000-4000-8000-000000000%d%02d\n", size, i+1, j+1)
		}
		run(t, table, "sfdisk", "--quiet", name)
		disks = append(disks, name)
	}
	for i := range 2 {
		disks = append(disks, part(t, dir, fmt.Sprintf("whole%d.raw", i), 24*mib))
	}
	return disks
}

// ArrayScript is a script for a shell that makes the arrays, on the block devices of
// the disks: that of a partition is the disk's with a number behind it.
func ArrayScript(disks []string) string {
	lines := []string{"set -eux", "exec 2>&1"}
	for i, d := range disks {
		lines = append(lines, fmt.Sprintf("d%d=%s", i, d))
	}
	return strings.Join(lines, "\n") + arrayScript
}

const arrayScript = `
make() { # number of the device, name, version, level, other options, members
	n=$1 name=$2 version=$3 level=$4 options=$5; shift 5
	mdadm --create /dev/md$n --run --homehost=web01 --name=$name --metadata=$version --level=$level \
		--uuid=11111111:22223333:44445555:5555555$(printf %x $n) $options --raid-devices=$# "$@"
}
ext() { # number, type, label
	mke2fs -q -F -t $2 -L $3 -U 11111111-2222-4333-8444-55555555558$(printf %x $1) -I 256 /dev/md$1
	fill /dev/md$1 $3
}
fill() {
	mount $1 /tmp/mnt
	echo $2 > /tmp/mnt/name
	head -c 300000 /dev/zero | tr '\0' x > /tmp/mnt/large
	umount /tmp/mnt
}
mkdir -p /tmp/mnt
modprobe -a linear raid0 raid1 raid10 raid456
make 1 root 1.2 1 "--assume-clean --bitmap=internal" ${d0}1 ${d1}1
make 2 stripes 1.2 0 --chunk=64 ${d0}2 ${d1}2
mdadm --create /dev/md3 --run --metadata=0.90 --level=1 --uuid=11111111:22223333:44445555:55555553 --assume-clean --raid-devices=2 ${d0}3 ${d1}3
make 4 five 1.1 5 "--assume-clean --chunk=64" ${d0}4 ${d1}4 ${d2}1
make 5 joined 1.0 linear --rounding=64 ${d0}5 ${d1}5
make 6 ten 1.2 10 "--assume-clean --chunk=64" ${d0}6 ${d1}6 ${d2}2 ${d3}1
make 7 pv 1.2 1 --assume-clean ${d0}7 ${d1}7
make 8 worn 1.2 1 --assume-clean ${d0}8 ${d1}8
make 9 six 1.2 6 "--assume-clean --chunk=64" ${d0}9 ${d1}9 ${d2}3 ${d3}2
make 10 zones 1.2 0 --chunk=64 ${d0}10 ${d1}10
make 11 lost 1.2 0 --chunk=64 ${d2}4 ${d3}3
make 12 whole 1.0 1 --assume-clean ${d4} ${d5}
make 13 left 1.2 1 --assume-clean ${d2}5 ${d3}4
make 14 right 1.2 1 --assume-clean ${d2}6 ${d3}5
make 15 outer 1.2 0 --chunk=64 /dev/md13 /dev/md14
ext 1 ext4 root
ext 2 ext2 stripes
mkswap -U 11111111-2222-4333-8444-555555555583 /dev/md3
ext 4 ext4 five
ext 5 ext2 joined
ext 6 ext4 ten
export LVM_SYSTEM_DIR=/tmp
lvm pvcreate --yes /dev/md7
lvm vgcreate --yes md-vg /dev/md7
lvm lvcreate --yes -n data -l1 md-vg
lvm lvcreate --yes -n wide -l1 md-vg
lvm lvcreate --yes -n between -l1 md-vg
lvm lvextend -l+1 md-vg/wide
lvm lvremove --yes md-vg/between
mke2fs -q -F -t ext4 -L data -U 11111111-2222-4333-8444-55555555558d -I 256 /dev/md-vg/data
fill /dev/md-vg/data data
mke2fs -q -F -t ext4 -L wide -U 11111111-2222-4333-8444-55555555558e -I 256 /dev/md-vg/wide
fill /dev/md-vg/wide wide
lvm vgchange -an md-vg
ext 8 ext2 worn
mdadm /dev/md8 --fail ${d1}8 --remove ${d1}8
fill /dev/md8 "worn since"
ext 9 ext2 six
ext 10 ext2 zones
ext 11 ext2 lost
echo 'label: dos
label-id: 0xdeadbe0c
size=8MiB, type=83' | sfdisk --quiet /dev/md12
ext 15 ext4 outer
udevadm settle
for n in 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1; do mdadm --stop /dev/md$n; done
mdadm --zero-superblock ${d3}3
`

// OnArrays is what the file /name says on each volume of Arrays that has one.
var OnArrays = map[string]string{
	"md/root": "root", "md/stripes": "stripes", "md/five": "five", "md/joined": "joined", "md/ten": "ten", "md-vg/data": "data",
	"md-vg/wide": "wide", "md/worn": "worn since", "md/six": "six", "md/zones": "zones", "md/outer": "outer",
}

// LeftToMd are the volumes of Arrays that only md itself follows.
var LeftToMd = []string{"md/five", "md/six", "md/ten"}
