package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
)

// tree makes files and symbolic links ("-> target") below a root of its own.
func tree(t *testing.T, files map[string]string) system {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(root+name), 0o755); err != nil {
			t.Fatal(err)
		}
		write := func() error { return os.WriteFile(root+name, []byte(content), 0o644) }
		if target, isLink := strings.CutPrefix(content, "-> "); isLink {
			write = func() error { return os.Symlink(target, root+name) }
		}
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	return system{root}
}

// sysfs is a guest with / on LVM on the second partition of a virtio disk, a
// SCSI disk and a SATA disk.
var sysfs = map[string]string{
	"/sys/devices/pci0000:00/0000:00:02.1/driver":                                        "-> ../../../bus/pci_express/drivers/pcieport",
	"/sys/devices/pci0000:00/0000:00:02.1/0000:02:00.0/driver":                           "-> ../../../../bus/pci/drivers/virtio-pci",
	"/sys/devices/pci0000:00/0000:00:02.1/0000:02:00.0/virtio1/driver":                   "-> ../../../../../bus/virtio/drivers/virtio_blk",
	"/sys/devices/pci0000:00/0000:00:02.1/0000:02:00.0/virtio1/block/vda/size":           "8388608\n",
	"/sys/devices/pci0000:00/0000:00:02.1/0000:02:00.0/virtio1/block/vda/serial":         "web01-disk0",
	"/sys/devices/pci0000:00/0000:00:02.1/0000:02:00.0/virtio1/block/vda/device":         "-> ../../../virtio1",
	"/sys/devices/pci0000:00/0000:00:02.1/0000:02:00.0/virtio1/block/vda/vda2/partition": "2\n",
	"/sys/devices/virtual/block/dm-0/slaves/vda2":                                        "-> ../../../../pci0000:00/0000:00:02.1/0000:02:00.0/virtio1/block/vda/vda2",
	"/sys/devices/virtual/block/dm-0/size":                                               "1000\n",
	"/sys/block/vda":                                                                     "-> ../devices/pci0000:00/0000:00:02.1/0000:02:00.0/virtio1/block/vda",
	"/sys/block/dm-0":                                                                    "-> ../devices/virtual/block/dm-0",
	"/sys/block/sda/size":                                                                "2048\n",
	"/sys/block/sda/device/vpd_pg80":                                                     "\x00\x80\x00\x0bweb01-disk1",
	"/sys/block/sdb/size":                                                                "4096\n",
	"/sys/block/sdb/dev":                                                                 "8:16\n",
	"/run/udev/data/b8:16":                                                               "S:disk/by-id/x\nE:ID_SERIAL=QEMU_HARDDISK_web01-disk2\nE:ID_SERIAL_SHORT=web01-disk2\n",
	"/run/udev/data/b254:0":                                                              "E:DM_NAME=vg-root\nE:ID_FS_UUID=3f0e6c1a\nE:ID_FS_UUID_ENC=3f0e6c1a\n",
	"/sys/block/loop0/size":                                                              "8\n",
	"/sys/dev/block/254:0":                                                               "-> ../../devices/virtual/block/dm-0",
	"/proc/self/mountinfo":                                                               "1 1 0:2 / / rw - rootfs rootfs rw\n22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw,errors=remount-ro\n23 22 0:5 / /dev rw - devtmpfs udev rw\n",
	"/proc/net/route":                                                                    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\nens192\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\nens192\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n",
	"/proc/net/ipv6_route":                                                               strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003   ens192\n" + strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " ffffffff 00000001 00000000 00200200       lo\n",
	"/sys/class/virtio-ports/vport4p1/name":                                              "org.qemu.guest_agent.0\n",
	"/sys/class/virtio-ports/vport4p2/name":                                              wire.Port + "\n",
}

func TestDisksAreNamedBySerialWithTheirDrivers(t *testing.T) {
	got, err := tree(t, sysfs).disks()
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.Disk{
		{Name: "sda", Size: 1 << 20, Serial: "web01-disk1"},
		{Name: "sdb", Size: 2 << 20, Serial: "web01-disk2"},
		{Name: "vda", Size: 4 << 30, Serial: "web01-disk0", Drivers: []string{"virtio_blk", "virtio-pci", "pcieport"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
}

func TestTheRootIsFollowedThroughLVMToItsDisk(t *testing.T) {
	s := tree(t, sysfs)
	got, err := s.rootFS()
	if err != nil {
		t.Fatal(err)
	}
	if got.Size < 1<<20 {
		t.Errorf("the root has %d bytes", got.Size)
	}
	got.Size = 0 // this machine's
	want := wire.Root{Source: "/dev/mapper/vg-root", Type: "ext4", Options: "rw,relatime;rw,errors=remount-ro", UUID: "3f0e6c1a", Disks: []string{"vda"}, Writable: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("root (-want +got):\n%s", diff)
	}
	if left, err := filepath.Glob(s.root + "/.hyper2kvm*"); err != nil || len(left) > 0 {
		t.Errorf("the write test left %q, %v", left, err)
	}
}

func TestFileSystemsOfBlockDevicesAndSwapAreTold(t *testing.T) {
	s := tree(t, map[string]string{
		"/proc/self/mountinfo": "22 1 254:0 / / rw shared:1 - ext4 /dev/mapper/vg-root rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n" +
			"30 22 254:16 / /srv/my\\040data rw shared:8 - xfs /dev/vdb rw\n" + // covered by the next
			"30 22 254:17 / /srv/my\\040data rw shared:9 - xfs /dev/vdb1 ro,attr2\n31 22 0:50 / /srv/nfs rw - nfs4 nas:/x rw\n",
		"/etc/fstab":             "# /x\nUUID=1 / ext4\nUUID=2 /data/ xfs nofail 0 2\nUUID=3 none swap\n",
		"/run/udev/data/b254:17": "E:ID_FS_TYPE=xfs\nE:ID_FS_UUID=2\n",
		"/srv/my data/keep":      "",
		"/data":                  "-> srv/my data",
		"/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/vda5                               partition\t998396\t\t0\t\t-2\n" +
			"/dev/zram0                              partition\t998396\t\t0\t\t100\n/swapfile                               file\t998396\t\t0\t\t-3\n",
	})
	mounts, err := s.mounts()
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.Mount{{Path: "/", Source: "/dev/mapper/vg-root", Type: "ext4"}, {Path: "/srv/my data", Source: "/dev/vdb", Type: "xfs"},
		{Path: "/srv/my data", Source: "/dev/vdb1", Type: "xfs", UUID: "2", ReadOnly: true},
		{Path: "/data", Source: "/dev/vdb1", Type: "xfs", UUID: "2", ReadOnly: true}}
	if diff := cmp.Diff(want, mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	swaps, err := s.swaps()
	if err != nil || !slices.Equal(swaps, []string{"/dev/vda5"}) {
		t.Errorf("swaps = %q, %v, want /dev/vda5 alone", swaps, err)
	}
}

func TestSubvolumesAreTold(t *testing.T) {
	s := tree(t, map[string]string{
		"/proc/self/mountinfo": "22 1 0:24 /@rootfs / rw,relatime shared:1 - btrfs /dev/vda1 rw,space_cache=v2,subvolid=256,subvol=/@rootfs\n" +
			"30 22 0:24 /@home,subvolid=5 /home rw,relatime shared:8 - btrfs /dev/vda1 rw,subvolid=257,subvol=/@home,subvolid=5\n" +
			"31 22 0:24 /@old /old rw,relatime shared:8 - btrfs /dev/vda1 rw,space_cache\n" +
			"32 22 254:17 / /srv rw shared:9 - xfs /dev/vdb1 rw,subvolid=9\n",
	})
	mounts, err := s.mounts()
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, m := range mounts {
		got = append(got, m.Subvolume)
	}
	if want := []uint64{256, 257, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("subvolumes = %d, want %d", got, want)
	}
	root, _, err := rootMount(s.read("/proc/self/mountinfo"))
	if err != nil || root.Subvolume != 256 {
		t.Errorf("root = %+v, %v, want the subvolume 256", root, err)
	}
}

func TestMountsThatOnlyANetworkServesAreKnown(t *testing.T) {
	got := remotes("Id=srv-nfs.mount\nType=nfs4\n\nType=ext4\nId=-.mount\n\nType=fuse.sshfs\nId=srv-ssh.mount\n")
	if want := []string{"srv-nfs.mount", "srv-ssh.mount"}; !slices.Equal(got, want) {
		t.Errorf("remotes = %q, want %q", got, want)
	}
}

func TestGatewaysOfBothFamilies(t *testing.T) {
	want := []wire.Gate{
		{Addr: netip.MustParseAddr("192.0.2.1"), Interface: "ens192", Metric: 100},
		{Addr: netip.MustParseAddr("fe80::1"), Interface: "ens192", Metric: 0x400},
	}
	if got := tree(t, sysfs).gateways(); !slices.Equal(got, want) {
		t.Errorf("gateways = %v, want %v", got, want)
	}
}

func TestThePortIsFoundWithoutUdev(t *testing.T) {
	s := tree(t, sysfs)
	if got, err := findPort(s.root + "/sys/class/virtio-ports"); err != nil || got != "vport4p2" {
		t.Errorf("findPort = %q, %v", got, err)
	}
}

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		shown, target string
		kind          wire.Kind
	}{
		{"Id=graphical.target\nActiveState=active\n\nId=emergency.target\nActiveState=inactive\n\nId=rescue.target\nActiveState=inactive\n", "graphical.target", wire.Reached},
		{"Id=multi-user.target\nActiveState=inactive\n\nId=emergency.target\nActiveState=inactive\n\nId=rescue.target\nActiveState=inactive\n", "multi-user.target", wire.Starting},
		{"ActiveState=inactive\nId=multi-user.target\n\nActiveState=active\nId=emergency.target\n\nActiveState=inactive\nId=rescue.target\n", "multi-user.target", wire.Emergency},
		{"", "", wire.Starting},
	} {
		if target, kind := progress(c.shown); target != c.target || kind != c.kind {
			t.Errorf("progress(%q) = %q, %q, want %q, %q", c.shown, target, kind, c.target, c.kind)
		}
	}
}

func TestFailedUnitsOfOldAndNewSystemctl(t *testing.T) {
	out := "srv.mount loaded failed failed /srv\n● shop.service loaded failed failed Shop\n\n"
	if got, want := firstWords(out), []string{"srv.mount", "shop.service"}; !slices.Equal(got, want) {
		t.Errorf("firstWords = %q, want %q", got, want)
	}
}

func TestReportsStayBounded(t *testing.T) {
	if got := lines(strings.Repeat(strings.Repeat("x", 9999)+"\n", 9999)); len(got) != maxItems || len(got[0]) > maxText+len("…") {
		t.Errorf("%d lines of %d bytes", len(got), len(got[0]))
	}
}

func TestEchoRequestsAreAnsweredByTheirOwnID(t *testing.T) {
	request := echo(8, 0x1234)
	if checksum(request) != 0 {
		t.Errorf("checksum over a request is %#x, want 0", checksum(request))
	}
	header := append([]byte{0x45}, make([]byte, 19)...)
	for _, c := range []struct {
		packet []byte
		want   bool
	}{
		{append(slices.Clone(header), echo(0, 0x1234)...), true},
		{append(slices.Clone(header), echo(0, 0x4321)...), false},
		{append(slices.Clone(header), request...), false},
		{header[:10], false},
		{nil, false},
	} {
		if got := isReply(c.packet, true, 0, 0x1234); got != c.want {
			t.Errorf("isReply(%x) = %v, want %v", c.packet, got, c.want)
		}
	}
}

// TestTheProbeAndTheHostUnderstandEachOther joins both real ends.
func TestTheProbeAndTheHostUnderstandEachOther(t *testing.T) {
	key, err := probe.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "port")
	host, err := probe.Listen(path, key)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	rebooted := errors.New("rebooted")
	ended := make(chan error, 1)
	go func() {
		ended <- converse(conn, key, func() wire.Report { return wire.Report{Kind: wire.Reached, BootID: "b"} },
			func(command string) error {
				if command != wire.Reboot {
					t.Errorf("told to %s", command)
				}
				return rebooted
			})
	}()
	for range 2 {
		select {
		case r := <-host.Reports():
			if r.BootID != "b" || r.Kind != wire.Reached {
				t.Errorf("report = %+v", r)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no report")
		}
		if err := host.Challenge(); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Do(wire.Reboot); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, rebooted) {
		t.Errorf("converse = %v, want %v", err, rebooted)
	}
	if err := errors.Join(conn.Close(), host.Close()); err != nil || host.Forged() != 0 {
		t.Errorf("close = %v, forged %d", err, host.Forged())
	}
}

func TestASignedReportSurvivesTheLine(t *testing.T) {
	key := make([]byte, wire.KeySize)
	m, err := wire.Sign(key, "n", wire.Report{Hostname: "<web>&\u2028", Journal: []string{"\xff\x00"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(strings.NewReader(string(b) + "\n")).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var got wire.ToHost
	if err := json.Unmarshal(line, &got); err != nil || !got.Authentic(key) {
		t.Errorf("authentic: %v, %v", got.Authentic(key), err)
	}
}
