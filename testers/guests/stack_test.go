package guests

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

func contentOf(t *testing.T, r Recipe, path string) string {
	t.Helper()
	for _, f := range r.files() {
		if f.Path == path {
			return f.Content
		}
	}
	t.Fatalf("%s has no %s", r.Name, path)
	return ""
}

func TestAnEncryptedGuestIsWrittenAsItsInstallerDoes(t *testing.T) {
	for path, want := range map[string]string{
		"etc/crypttab": "sda2_crypt /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2 none luks,discard\n",
		"etc/fstab": `# <file system> <mount point> <type> <options> <dump> <pass>
UUID=b3c86e14-0d7f-4a52-9be1-68f20d5c7a93 /boot ext4 defaults 0 2
/dev/mapper/vault01--vg-root / ext4 errors=remount-ro 0 1
/dev/mapper/vault01--vg-swap_1 none swap sw 0 0
`,
		"usr/local/sbin/stack": `#!/bin/sh -eu
exec > /dev/ttyS0 2>&1
trap 'sync; echo o > /proc/sysrq-trigger; sleep 60' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DM_DISABLE_UDEV=1 MDADM_NO_UDEV=1 LVM_SYSTEM_DIR=/run/stack
mkdir /run/stack
echo 'backup { backup=0 archive=0 }' > /run/stack/lvm.conf
set -x
printf %s 'Open, Sesame: 7 thieves!' | cryptsetup luksFormat --batch-mode --key-file=- --type=luks2 --uuid=c1f7a940-5e2b-4d86-b3a9-07e64d1f8c52 --pbkdf=argon2id --pbkdf-memory=32768 --pbkdf-force-iterations=4 --pbkdf-parallel=1 /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2
printf %s 'Open, Sesame: 7 thieves!' | cryptsetup open --key-file=- /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2 sda2_crypt
lvm pvcreate --quiet /dev/mapper/sda2_crypt
lvm vgcreate --quiet vault01-vg /dev/mapper/sda2_crypt
lvm lvcreate --quiet --activate n --zero n --wipesignatures n --extents 550 --name root vault01-vg /dev/mapper/sda2_crypt:0-549
lvm lvcreate --quiet --activate n --zero n --wipesignatures n --extents 64 --name swap_1 vault01-vg /dev/mapper/sda2_crypt:550-613
lvm vgchange --activate y vault01-vg
dd if=/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0 of=/dev/mapper/vault01--vg-root bs=1M conv=fsync status=none
mkswap --uuid e7012b6d-94fc-4358-a0d7-3c85e1f9b264 /dev/mapper/vault01--vg-swap_1
sync
lvm vgchange --activate n vault01-vg
cryptsetup close sda2_crypt
sync
echo guest-stacked
`,
	} {
		if diff := cmp.Diff(want, contentOf(t, vault01, path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	line := "root=/dev/mapper/vault01--vg-root ro console=ttyS0 systemd.mask=serial-getty@ttyS0.service " +
		"cryptopts=target=sda2_crypt,source=UUID=c1f7a940-5e2b-4d86-b3a9-07e64d1f8c52,key=/cryptroot/finish.key,luks,discard"
	if got := vault01.finishLine(); got != line {
		t.Errorf("the finish boot's line is %s, want %s", got, line)
	}
}

func TestAMirrorIsWrittenAsItsInstallerDoes(t *testing.T) {
	for path, want := range map[string]string{
		"etc/mdadm/mdadm.conf": `HOMEHOST <system>
MAILADDR root
ARRAY /dev/md/0  metadata=1.2 UUID=8f03b7d2:6c15e94a:3d70a8f1:b25ec964 name=mirror01:0
ARRAY /dev/md/1  metadata=1.2 UUID=1ab65d09:f2e8437c:90cd15b6:7e4f38a0 name=mirror01:1
`,
		"etc/fstab": `# <file system> <mount point> <type> <options> <dump> <pass>
UUID=90d3f5a7-1e6c-4b28-a74f-d8e02c61b593 / ext4 errors=remount-ro 0 1
UUID=3e7b81c6-d50a-4f92-86e3-a9c4f70d1b28 none swap sw 0 0
`,
	} {
		if diff := cmp.Diff(want, contentOf(t, mirror01, path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	create := []string{"--create", "/dev/md0", "--run", "--assume-clean", "--level=1", "--metadata=1.2", "--raid-devices=2", "--homehost=mirror01", "--name=0",
		"--uuid=8f03b7d2:6c15e94a:3d70a8f1:b25ec964", "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1"}
	if diff := cmp.Diff(create, mirror01.Arrays[0].createArgs(mirror01)); diff != "" {
		t.Error(diff)
	}
	script := contentOf(t, mirror01, "usr/local/sbin/stack")
	for _, want := range []string{
		"dd if=/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:2:0 of=/dev/md0 bs=1M", "mkswap --uuid 3e7b81c6-d50a-4f92-86e3-a9c4f70d1b28 /dev/md1\n", "mdadm --stop /dev/md1\n",
	} {
		if !strings.Contains(script, want) {
			t.Errorf("the script lacks %q:\n%s", want, script)
		}
	}
	if finish := mirror01.finishScript(); !strings.Contains(finish, "grub-install /dev/sda\ngrub-install /dev/sdb\nupdate-initramfs -u -k all\nrm /usr/local/sbin/stack\n") {
		t.Errorf("the finish boot runs:\n%s", finish)
	}
	if want := "multiselect /dev/disk/by-id/scsi-36000c298e53a07fd1c94b6208e7d15fa, /dev/disk/by-id/scsi-36000c29176d2f80be5ca4390f81b7d26\n"; !strings.Contains(mirror01.debconf(), want) {
		t.Errorf("debconf is told %q, want %q in it", mirror01.debconf(), want)
	}
}

func TestTheStackFitsItsPartitions(t *testing.T) {
	for _, p := range vault01.locked() {
		last := p.lockedVolumes(0, 0)[len(p.Group.Volumes)-1]
		if end := last.start + last.Size; end > p.Size {
			t.Errorf("volumes end at %d, their partition at %d", end, p.Size)
		}
	}
	const superblock = 4 * mib // more than mdadm leaves in front of so small an array
	for _, a := range mirror01.Arrays {
		for _, d := range mirror01.Disks {
			if size := d.Partitions[a.Partition-1].Size; a.Size+superblock > size {
				t.Errorf("array %d holds %d bytes, its member %d", a.Number, a.Size, size)
			}
		}
	}
}

func TestTheStacksMachineHasItsContentBehindTheGuestsDisks(t *testing.T) {
	args := stackArgs(mirror01, "dir", "said", kernel{"k", "i"})
	for _, want := range []string{
		"if=none,id=disk1,file=dir/disk1.raw,format=raw,cache=unsafe",
		"if=none,id=disk2,file=dir/content-90d3f5a7-1e6c-4b28-a74f-d8e02c61b593,format=raw,readonly=on",
		"root=UUID=90d3f5a7-1e6c-4b28-a74f-d8e02c61b593 ro noresume fsck.mode=skip console=ttyS0 init=/usr/local/sbin/stack",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("stackArgs lack %s: %q", want, args)
		}
	}
}

func TestAnAppendedArchiveBeginsWhereLinuxLooksForIt(t *testing.T) {
	for size := range int64(5) {
		initrd := bytes.NewBuffer(make([]byte, size))
		if err := addFile(initrd, size, finishKey, "sesame"); err != nil {
			t.Fatal(err)
		}
		at := (size + 3) / 4 * 4
		records := cpio.Newc.Reader(bytes.NewReader(initrd.Bytes()[at:]))
		var names []string
		for {
			r, err := records.ReadRecord()
			if err != nil {
				break
			}
			names = append(names, r.Name)
			if r.Name != "cryptroot/finish.key" {
				continue
			}
			if text, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize))); err != nil || string(text) != "sesame" {
				t.Errorf("the file has %q, %v", text, err)
			}
		}
		if !slices.Equal(names, []string{"cryptroot", "cryptroot/finish.key"}) {
			t.Errorf("behind %d bytes there are %q", size, names)
		}
	}
}
