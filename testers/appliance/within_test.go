package appliance

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/screen"
)

// attached are options for empty disks, which keep what is written to them.
func attached(t *testing.T, names ...string) (options []string) {
	t.Helper()
	folder := t.TempDir()
	for _, name := range names {
		path := filepath.Join(folder, name)
		if _, err := proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", disk.QCOW2, "--", path, "1G"); err != nil {
			t.Fatal(err)
		}
		options = append(options, "-drive", "if=none,id="+name+",format=qcow2,file="+path, "-device", "virtio-blk-pci,drive="+name+",serial="+name)
	}
	return options
}

// TestItActivatesNothingOfDisksThatItFinds: they are other machines'. What lies on them is
// made by hand on the appliance itself, which starts once more with them.
func TestItActivatesNothingOfDisksThatItFinds(t *testing.T) {
	s := Spec{Home: t.TempDir(), Options: attached(t, "PV", "MD0", "MD1", "BTRFS0", "BTRFS1")}
	made := inside(t, s, `cd /dev/disk/by-id; \
echo "group: <$(vgcreate group $PWD/virtio-PV 2>&1; lvcreate -y -n volume -L 64M group 2>&1; mkfs.ext4 -q /dev/group/volume 2>&1)>"; \
mdadm --create /dev/md/array --run --metadata=1.2 --level=1 --raid-devices=2 virtio-MD0 virtio-MD1 2>&1; \
mkfs.btrfs -q -f virtio-BTRFS0 virtio-BTRFS1; \
echo "volumes: <$(lvs --noheadings -o lv_name,lv_active)>"; \
echo "arrays: <$(grep ^md /proc/mdstat)>"; \
echo "btrfs: <$(mount -t btrfs -o ro virtio-BTRFS0 /mnt 2>&1 && echo whole; umount /mnt)>"; \
vgchange -an group; mdadm --stop --scan 2>&1; sync`)
	for name, word := range map[string]string{"volumes": "active", "arrays": "raid1", "btrfs": "whole"} {
		if !strings.Contains(made[name], word) {
			t.Fatalf("%s were not made: %q", name, made)
		}
	}
	found := inside(t, s, `udevadm settle; cd /dev/disk/by-id; \
echo "there: <$(blkid -p -s TYPE -o value virtio-PV virtio-MD0 virtio-MD1 virtio-BTRFS0 virtio-BTRFS1)>"; \
echo "volumes: <$(lvs --noheadings -o lv_name,lv_active)>"; \
echo "mapped: <$(dmsetup ls | grep -v "No devices\|^hyper2kvm-root")>"; \
echo "arrays: <$(grep ^md /proc/mdstat)>"; \
echo "btrfs: <$(mount -t btrfs -o ro virtio-BTRFS0 /mnt 2>&1 && echo whole)>"; \
echo "mounts: <$(findmnt -rno SOURCE | grep "^/dev/\(md\|mapper/group\|vd[b-f]\)")>"; \
cd /etc/udev/rules.d && rm 69-lvm.rules 64-btrfs.rules 64-md-raid-assembly.rules; \
udevadm control --reload; udevadm trigger --settle --action=add --subsystem-match=block; sleep 20; \
echo "otherwise: <$(lvs --noheadings -o lv_name,lv_active; grep ^md /proc/mdstat; mount -t btrfs -o ro /dev/disk/by-id/virtio-BTRFS0 /mnt 2>&1 && echo whole)>"`)
	if kinds := strings.Fields(found["there"]); fmt.Sprint(kinds) != "[LVM2_member linux_raid_member linux_raid_member btrfs btrfs]" {
		t.Fatalf("the disks hold %q", kinds)
	}
	if !strings.Contains(found["volumes"], "volume") || strings.Contains(found["volumes"], " active") {
		t.Errorf("volumes: %q", found["volumes"])
	}
	for _, name := range []string{"mapped", "arrays", "mounts"} {
		if what, said := found[name]; what != "" || !said {
			t.Errorf("%s: %q, said %v; there are to be none", name, what, said)
		}
	}
	if strings.Contains(found["btrfs"], "whole") { // its other half is not known to the kernel
		t.Error("both halves of the btrfs are known")
	}
	for _, word := range []string{" active", "raid1", "whole"} {
		if !strings.Contains(found["otherwise"], word) {
			t.Errorf("without its own rules nothing would be activated either: %q", found["otherwise"])
		}
	}
}

// TestItsProgramsAnswerWithin: libvirt, nbdkit's vddk plugin, and loadkeys for each layout
// that first boot takes.
func TestItsProgramsAnswerWithin(t *testing.T) {
	said := inside(t, Spec{}, `echo "libvirt: <$(virsh -c qemu:///system version --daemon 2>&1)>"; \
echo "domains: <$(virsh -c qemu:///system domcapabilities --virttype qemu 2>&1 | grep -c domainCapabilities)>"; \
echo "vddk: <$(nbdkit vddk --dump-plugin 2>&1)>"; \
echo "layouts: <$(for f in /usr/share/keymaps/i386/*/*.kmap.gz; do l=$(basename $f .kmap.gz); loadkeys --quiet --parse $l >/dev/null 2>&1 && echo $l; done)>"`)
	taken, err := os.ReadFile("../../agent/firstboot/keymaps.txt")
	if err != nil {
		t.Fatal(err)
	}
	layouts := strings.Fields(said["layouts"])
	slices.Sort(layouts)
	if diff := cmp.Diff(strings.Fields(string(taken)), layouts); diff != "" {
		t.Errorf("the layouts that first boot takes, and those that there are: %s", diff)
	}
	for name, word := range map[string]string{"libvirt": "Running against daemon", "domains": "2", "vddk": "name=vddk"} {
		if !strings.Contains(said[name], word) {
			t.Errorf("%s: %q", name, said[name])
		}
	}
}

// launched is what libguestfs's daemon says when it is ready.
//
// Source: libguestfs, common/protocol/guestfs_protocol.x, GUESTFS_LAUNCH_FLAG.
const launched = "\xf5\xf5\x5f\xf5"

// TestTheMachineOfLibguestfsStarts: it is taken out of the image and started as libguestfs
// does, until its daemon is ready. Within the appliance, emulated by what is emulated, that
// takes longer than libguestfs is given.
func TestTheMachineOfLibguestfsStarts(t *testing.T) {
	at, folder := t.TempDir(), t.TempDir()
	root := table(t)[2]
	if _, err := proc.Run(t.Context(), "mount", "-t", "erofs", "-o", fmt.Sprintf("ro,loop,offset=%d,sizelimit=%d", root.Start*512, root.Size*512), image(t), at); err != nil {
		t.Fatal(err)
	}
	_, err := proc.Run(t.Context(), "cp", "-r", "--sparse=always", at+"/usr/lib/hyper2kvm/guestfs", folder)
	if err := errors.Join(err, unix.Unmount(at, 0)); err != nil {
		t.Fatal(err)
	}
	choice, err := accel.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(folder, "guestfs", name) }
	server, err := proc.Start(t.Context(), proc.Service{Socket: file("qmp"), Command: proc.Command{Name: "qemu-system-x86_64", Args: append(choice.QEMU(),
		"-nodefaults", "-machine", "q35", "-m", "1280", "-display", "none", "-no-reboot", "-qmp", "unix:"+file("qmp")+",server=on,wait=off",
		"-kernel", file("kernel"), "-initrd", file("initrd"), "-append", "panic=1 console=ttyS0 root=UUID=68797065-7232-4b76-8d2d-677565737466",
		"-serial", "file:"+file("serial"), "-device", "virtio-scsi-pci", "-drive", "if=none,id=root,format=raw,snapshot=on,file="+file("root"), "-device", "scsi-hd,drive=root",
		"-device", "virtio-serial-pci", "-chardev", "file,id=channel,path="+file("channel"), "-device", "virtserialport,chardev=channel,name=org.libguestfs.channel.0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	for limit := time.Now().Add(patience); ; time.Sleep(time.Second) {
		said, err := os.ReadFile(file("channel"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(said), launched) {
			return
		}
		select {
		case <-server.Done():
			limit = time.Time{}
		default:
		}
		if time.Now().After(limit) {
			serial, _ := os.ReadFile(file("serial"))
			t.Fatalf("its daemon said %q; %s\n%s", said, server.Stderr(), tail(string(serial)))
		}
	}
}

// environment is the OVF environment of somebody whose values are wrong.
const environment = `<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"><PropertySection>
<Property oe:key="hostname" oe:value="mover7"/><Property oe:key="address" oe:value="192.0.2.300/24"/><Property oe:key="dns" oe:value="one"/>
</PropertySection></Environment>`

// TestWhatItIsToldWrongIsOnItsScreen, and it starts all the same. A script plays VMware's
// tools, which answer on VMware's machines alone: who asks them, reads the answer and shows
// what is wrong with it is the appliance.
func TestWhatItIsToldWrongIsOnItsScreen(t *testing.T) {
	script := "#!/bin/sh\ncase $2 in *guestinfo.ovfEnv) cat <<E\n" + environment + "\nE\n;; *) echo No value found >&2; exit 1;; esac\n"
	s := Spec{SMBIOS: []string{credential("tmpfiles.extra", "f~ /run/tools 0755 root root - "+base64.StdEncoding.EncodeToString([]byte(script)))}, Options: []string{"-smbios", "type=1,manufacturer=VMware"}}
	m, ctx := started(t, s.given("tools.service", "[Unit]\nDefaultDependencies=no\nAfter=systemd-tmpfiles-setup.service\nBefore=hyper2kvm-first-boot.service\n[Service]\nType=oneshot\nExecStart=/bin/mount --bind /run/tools /usr/bin/vmtoolsd\n", "sysinit.target"))
	if err := m.Ready(ctx); err != nil { // at an address of DHCP's
		t.Fatal(err)
	}
	if err := errors.Join(m.Says(ctx, "mover7 login"), m.Shows(ctx, "Problems", `address: "192.0.2.300/24" is no address: write one`, `dns: "one" is no host's address: write one`, "the network is left to DHCP")); err != nil {
		t.Error(err)
	}
}

// TestASeedThatSaysNothingIsOnItsScreen, and it starts all the same.
func TestASeedThatSaysNothingIsOnItsScreen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Run(t.Context(), "mkfs.vfat", "-n", "HYPER2KVM-S", path); err != nil {
		t.Fatal(err)
	}
	m, ctx := started(t, Spec{Options: []string{"-drive", "if=none,id=seed,format=raw,readonly=on,file=" + path, "-device", "virtio-blk-pci,drive=seed"}})
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Shows(ctx, "Problems", "the seed volume on /dev/vd", "make it with hyper2kvm seed"); err != nil {
		t.Error(err)
	}
}

// types presses the keys that a US keyboard has for a text.
func (m *Machine) types(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	for i := range len(text) {
		if err := m.Press(ctx, screen.Keys(text[i])); err != nil {
			t.Fatal(err)
		}
	}
}

// TestItsKeyboardHasTheLayoutThatIsSaid: German from its start on, where Z and Y have changed
// places, and French as soon as that was said on its screen, where A is at the place of Q.
// The field that takes keys is shown in reverse, and not read.
func TestItsKeyboardHasTheLayoutThatIsSaid(t *testing.T) {
	m, ctx := started(t, Spec{Kernel: "hyper2kvm.keymap=de"})
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	shows := func(texts ...string) {
		t.Helper()
		if err := m.Shows(ctx, texts...); err != nil {
			t.Fatal(err)
		}
	}
	shows("Agent: ready")
	const f2 = 60 // as Linux numbers it
	if err := m.Press(ctx, []int{f2}); err != nil {
		t.Fatal(err)
	}
	const hostName = "\t\t\t\t" // is the last field by DHCP
	m.types(t, ctx, hostName+"zy\t")
	shows("Keyboard layout de Host name yz")
	m.types(t, ctx, "\t\t\t\x7f\x7ffr\r")
	shows("Keyboard layout fr Host name yz", "Press Y to apply it.")
	m.types(t, ctx, "z")
	shows("The network is set up as you said.")
	m.types(t, ctx, "n"+hostName+"q\t")
	shows("Keyboard layout fr Host name yza")
}

// TestTheStateGrowsWithItsDisk, and can be left alone.
func TestTheStateGrowsWithItsDisk(t *testing.T) {
	s := Spec{Home: t.TempDir()}
	const ask = `echo "type: <$(stat -f -c %T /var/lib/hyper2kvm)>"; echo "size: <$(stat -f -c "%b %S" /var/lib/hyper2kvm)>"; echo "kept: <$(cat /var/lib/hyper2kvm/kept)>"; echo kept >/var/lib/hyper2kvm/kept; sync`
	first := inside(t, s, ask)
	const more = 4 << 30
	if _, err := proc.Run(t.Context(), "qemu-img", "resize", "-q", "-f", disk.QCOW2, "--", s.disk(), fmt.Sprintf("+%d", int64(more))); err != nil {
		t.Fatal(err)
	}
	grown := inside(t, s, ask)
	s.Kernel = "hyper2kvm.state=ram"
	alone := inside(t, s, ask)
	if by := bytesOf(t, grown["size"]) - bytesOf(t, first["size"]); by < more*9/10 {
		t.Errorf("it grew by %d bytes with a disk that has %d more", by, int64(more))
	}
	if first["kept"] != "" || grown["kept"] != "kept" || alone["kept"] != "" {
		t.Errorf("it has kept %q, then %q, and beside a state that is left alone %q", first["kept"], grown["kept"], alone["kept"])
	}
	if grown["type"] != "ext2/ext3" || alone["type"] != "tmpfs" {
		t.Errorf("it lies on %s, and on %s if the state is left alone", grown["type"], alone["type"])
	}
}

// bytesOf are blocks and their size.
func bytesOf(t *testing.T, size string) int64 {
	t.Helper()
	var blocks, each int64
	if _, err := fmt.Sscan(size, &blocks, &each); err != nil {
		t.Fatalf("%q: %v", size, err)
	}
	return blocks * each
}
