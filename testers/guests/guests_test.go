package guests

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers/lan"
)

func TestEveryRecipeFitsItsDisks(t *testing.T) {
	for _, r := range All {
		for i, d := range r.Disks {
			if end := d.start(len(d.Partitions)); end > d.Size-tableEnd[d.Table] {
				t.Errorf("%s: partitions end at %d, disk %d at %d", r.Name, end, i, d.Size)
			}
			if d.Table == "dos" && len(d.Partitions) > 4 {
				t.Errorf("%s: %d primary partitions", r.Name, len(d.Partitions))
			}
			for n, p := range d.Partitions {
				checkPartition(t, r.Name, n, d.start(n), p)
			}
		}
		for _, v := range r.volumes() {
			if v.Size <= 0 || v.Size%mib != 0 || makers[v.Type].args == nil {
				t.Errorf("%s: %s is %d bytes of %q", r.Name, v.Mount, v.Size, v.Type)
			}
		}
	}
}

// tableEnd is what a table takes at the end of its disk, in bytes.
var tableEnd = map[string]int64{"dos": 0, "gpt": mib}

func checkPartition(t *testing.T, guest string, n int, start int64, p Partition) {
	t.Helper()
	if p.Size <= 0 || p.Size%mib != 0 || partitionTypes[p.Type] == "" {
		t.Errorf("%s: partition %d is %d bytes of %q", guest, n+1, p.Size, p.Type)
	}
	at := start + firstExtent
	for _, v := range p.Group.volumes(0, start) {
		if v.Size%extent != 0 {
			t.Errorf("%s: %s has no whole number of extents", guest, v.kernel)
		}
		at = v.start + v.Size
	}
	if end := start + p.Size; at > end {
		t.Errorf("%s: volumes end at %d, their partition at %d", guest, at, end)
	}
}

func TestEveryRecipesCardsAreWhereVMwarePutsThem(t *testing.T) {
	for _, r := range All {
		known := r.Console
		for i, n := range r.NICs {
			if want := fmt.Sprintf("ens%d", slot(i)); n.Name != want {
				t.Errorf("%s: card %d is %s, want %s", r.Name, i, n.Name, want)
			}
			if n.Gateway.IsValid() && !n.Address.Contains(n.Gateway) {
				t.Errorf("%s: gateway %s is off the link %s", r.Name, n.Gateway, n.Address)
			}
			known = known || !n.lost()
		}
		if !known {
			t.Errorf("%s: nothing can tell that it is up", r.Name)
		}
	}
}

func TestRecipesAreFoundByName(t *testing.T) {
	for _, r := range All {
		got, err := Named(r.Name)
		if err != nil || got.UUID != r.UUID {
			t.Errorf("Named(%q) = %+v, %v", r.Name, got, err)
		}
	}
	if _, err := Named("web99"); err == nil {
		t.Error(`Named("web99") found a recipe`)
	}
}

func TestTheCacheKeyFollowsWhatTheGuestIs(t *testing.T) {
	base := mustID(t, web01)
	if again := mustID(t, web01); again != base {
		t.Errorf("id = %s, then %s", base, again)
	}
	mutants := map[string]func(*Recipe){
		"package":   func(r *Recipe) { r.Packages = append(slices.Clone(r.Packages), "lvm2") },
		"address":   func(r *Recipe) { r.NICs[0].Address = netip.MustParsePrefix("192.0.2.11/24") },
		"partition": func(r *Recipe) { r.Disks[0].Partitions[1].Size -= mib },
		"label":     func(r *Recipe) { r.Disks[0].ID = "0x7a3c91e5" },
		"WWN":       func(r *Recipe) { r.Disks[0].WWN = "6000c29000000000000000000000000a" },
		"firmware":  func(r *Recipe) { r.Firmware = machine.UEFI },
		"network":   func(r *Recipe) { r.Network = Netplan },
		"note":      func(r *Recipe) { r.Description += "!" },
	}
	for name, change := range mutants {
		r := web01
		r.NICs = slices.Clone(r.NICs)
		r.Disks = slices.Clone(r.Disks)
		r.Disks[0].Partitions = slices.Clone(r.Disks[0].Partitions)
		change(&r)
		if id := mustID(t, r); id == base {
			t.Errorf("another %s: still %s", name, id)
		}
	}
}

func mustID(t *testing.T, r Recipe) string {
	t.Helper()
	id, err := r.id()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSettingsReadAsVMwareWritesThem(t *testing.T) {
	vmx := web01.vmx()
	for _, want := range []string{
		`guestOS = "debian12-64"`,
		`memSize = "1024"`,
		`numvcpus = "2"`,
		`firmware = "bios"`,
		`scsi0.virtualDev = "pvscsi"`,
		`scsi0:0.fileName = "web01.vmdk"`,
		`ethernet0.virtualDev = "vmxnet3"`,
		`ethernet0.addressType = "static"`,
		`ethernet0.address = "00:50:56:12:c0:10"`,
		`uuid.bios = "56 4d 7c 1e 5f 0b 4a 1c-9d 3a 2b 7e 8c 41 f0 a6"`,
		`annotation = "Intranet web server|0AAsk |22facilities|22 before a restart"`,
	} {
		if !strings.Contains(vmx, want+"\n") {
			t.Errorf("vmx() lacks %s:\n%s", want, vmx)
		}
	}
	for want, r := range map[string]Recipe{
		`firmware = "efi"`:                        db01,
		`nvme0:0.fileName = "db01.vmdk"`:          db01,
		`scsi0:1.fileName = "edge01_1.vmdk"`:      edge01,
		`ethernet1.pciSlotNumber = "224"`:         edge01,
		`ethernet1.address = "00:50:56:0e:d9:02"`: edge01,
	} {
		if !strings.Contains(r.vmx(), want+"\n") {
			t.Errorf("%s: vmx() lacks %s:\n%s", r.Name, want, r.vmx())
		}
	}
}

func TestFstabNamesDisksByVMwaresPath(t *testing.T) {
	want := `# <file system> <mount point> <type> <options> <dump> <pass>
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1 / ext4 errors=remount-ro 0 1
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2 none swap sw 0 0
`
	if diff := cmp.Diff(want, web01.fstab()); diff != "" {
		t.Error(diff)
	}
}

func TestATwinNamesDisksByUUIDEverywhere(t *testing.T) {
	want := `# <file system> <mount point> <type> <options> <dump> <pass>
UUID=c81f5d07-2b94-4e36-9fa8-60e3d17c4b92 / ext4 errors=remount-ro 0 1
UUID=0d9a73e6-f415-48cb-b2d0-5a7e86c1932f none swap sw 0 0
`
	if diff := cmp.Diff(want, web02.fstab()); diff != "" {
		t.Error(diff)
	}
	for _, f := range web02.files() {
		switch f.Path {
		case "etc/initramfs-tools/conf.d/resume":
			if f.Content != "RESUME=UUID=0d9a73e6-f415-48cb-b2d0-5a7e86c1932f\n" {
				t.Errorf("%s: %q", f.Path, f.Content)
			}
		case "etc/default/grub":
			if strings.Contains(f.Content, "GRUB_DISABLE_LINUX_UUID") {
				t.Errorf("%s: %q", f.Path, f.Content)
			}
		}
	}
}

func TestNoTwoGuestsCanBeTakenForEachOther(t *testing.T) {
	owner := map[string]string{}
	for _, r := range All {
		own := []string{r.Name, r.UUID}
		for _, d := range r.Disks {
			own = append(own, d.WWN, d.ID)
		}
		for _, v := range r.volumes() {
			own = append(own, v.UUID)
		}
		for _, n := range r.NICs {
			own = append(own, n.MAC)
			if !n.dhcp() {
				own = append(own, n.Address.String())
			}
		}
		for _, name := range own {
			if other, taken := owner[name]; taken {
				t.Errorf("%s and %s share %s", other, r.Name, name)
			}
			owner[name] = r.Name
		}
	}
}

func TestLogicalVolumesAndKernelNamesAreWrittenAsTheyAre(t *testing.T) {
	want := `# <file system> <mount point> <type> <options> <dump> <pass>
UUID=5E1D-0A7C /boot/efi vfat umask=0077 0 1
UUID=6a0c85f1-e27d-4b39-8d54-f1b39e60c728 /boot ext4 defaults 0 2
/dev/mapper/db01--vg-root / ext4 errors=remount-ro 0 1
/dev/mapper/db01--vg-swap_1 none swap sw 0 0
/dev/mapper/db01--vg-srv /srv xfs defaults 0 0
`
	if diff := cmp.Diff(want, db01.fstab()); diff != "" {
		t.Error(diff)
	}
	btrfs := `/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1 / btrfs defaults,subvol=@rootfs 0 0
/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1 /home btrfs defaults,subvol=@home 0 0
`
	if !strings.Contains(file01.fstab(), btrfs) {
		t.Errorf("fstab is %q, want in it %q", file01.fstab(), btrfs)
	}
	if want := "/dev/sdb1 /srv xfs defaults 0 0\n"; !strings.HasSuffix(edge01.fstab(), want) {
		t.Errorf("fstab is %q, want the end %q", edge01.fstab(), want)
	}
}

func TestThePartitionScriptIsSfdisks(t *testing.T) {
	for _, test := range []struct {
		disk Disk
		want string
	}{
		{web01.Disks[0], `label: dos
label-id: 0x7a3c91e4
unit: sectors
start=2048, size=7337984, type=linux, bootable
start=7340032, size=1048576, type=swap
`},
		{db01.Disks[0], `label: gpt
label-id: 0B6E2C94-51D7-4F8A-9E03-C7A45D1B60F2
unit: sectors
start=2048, size=524288, type=uefi, uuid=D34A1F70-2C8B-4E95-8B61-0F9E57C2A413
start=526336, size=786432, type=linux, uuid=91C5E2B8-7F06-4D3A-A4D9-62B80E13F75C
start=1312768, size=9011200, type=lvm, uuid=4E87B03D-A6F1-4C52-9D78-3A5C6F02E1B9
`},
	} {
		if diff := cmp.Diff(test.want, test.disk.partitionScript()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAGroupsVolumesAreWhereItsExtentsAre(t *testing.T) {
	g := db01.Disks[0].Partitions[2].Group
	want := [][]string{
		{"pvcreate", "--quiet", "/dev/loop7"},
		{"vgcreate", "--quiet", "db01-vg", "/dev/loop7"},
		lvcreate("root", "700", "/dev/loop7:0-699"),
		lvcreate("swap_1", "128", "/dev/loop7:700-827"),
		lvcreate("srv", "256", "/dev/loop7:828-1083"),
	}
	if diff := cmp.Diff(want, groupCommands(g, "/dev/loop7")); diff != "" {
		t.Error(diff)
	}
	last := g.volumes(0, 641*mib)[2]
	if want := (641 + 1 + 828*4) * mib; last.start != want || last.kernel != "/dev/mapper/db01--vg-srv" {
		t.Errorf("%s begins at %d, want %d", last.kernel, last.start, want)
	}
}

func lvcreate(name, extents, where string) []string {
	return []string{"lvcreate", "--quiet", "--activate", "n", "--zero", "n", "--wipesignatures", "n",
		"--extents", extents, "--name", name, "db01-vg", where}
}

func TestAVolumeIsMadeBeforeTheOneItIsMountedIn(t *testing.T) {
	var got []string
	for _, v := range deepestFirst(db01.volumes()) {
		got = append(got, v.Mount)
	}
	if diff := cmp.Diff([]string{"none", "/srv", "/boot/efi", "/boot", "/"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestArguments(t *testing.T) {
	two := attached{drives: []string{"DRIVE0", "DRIVE1"}, netdevs: []string{"NET0", "NET1"}, serial: "said", vars: "vars"}
	for name, test := range map[string]struct{ got, want []string }{
		"mke2fs": {mke2fsArgs(web01.at("/"), "tree", "file"), []string{
			"-q", "-F", "-t", "ext4", "-U", "3f0e6c1a-8d52-4b7e-a1c4-95d20b6e7f18",
			"-O", "^metadata_csum_seed,^orphan_file", "-d", "tree", "file",
		}},
		"mkfs.vfat":  {mkvfatArgs(db01.at("/boot/efi"), "tree", "file"), []string{"-F", "32", "-i", "5E1D0A7C", "file"}},
		"mkfs.btrfs": {mkbtrfsArgs(file01.at("/"), "tree", "file"), []string{"--quiet", "--uuid", "7e2b9c50-1d48-4fa3-86e7-f30c5a9d1b24", "file"}},
		"finish on btrfs": {tail(finishArgs(file01, "dir", "", "said", kernel{"k", "i"}), 1), []string{
			"root=UUID=7e2b9c50-1d48-4fa3-86e7-f30c5a9d1b24 ro console=ttyS0 systemd.mask=serial-getty@ttyS0.service rootflags=subvol=@rootfs",
		}},
		"qemu-img": {vmdkArgs("disk.raw", "web01.vmdk"), []string{
			"convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic", "disk.raw", "web01.vmdk",
		}},
		"finish": {tail(finishArgs(web01, "dir", "", "said", kernel{"k", "i"}), 6), []string{
			"-kernel", "k", "-initrd", "i", "-append", "root=/dev/sda1 ro console=ttyS0 systemd.mask=serial-getty@ttyS0.service",
		}},
		"machine": {machineArgs(web01, two), []string{
			"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
			"-machine", "q35", "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
			"-smp", "2", "-m", "1024", "-uuid", "564d7c1e-5f0b-4a1c-9d3a-2b7e8c41f0a6", "-vga", "std", "-serial", "file:said",
			"-device", "pcie-root-port,id=port1,chassis=1,slot=1",
			"-device", "pcie-root-port,id=port2,chassis=2,slot=192",
			"-device", "pcie-root-port,id=port3,chassis=3,slot=3",
			"-netdev", "NET0,id=net0",
			"-device", "vmxnet3,bus=port2,netdev=net0,mac=00:50:56:12:c0:10",
			"-device", "pvscsi,id=scsi0,bus=port3",
			"-drive", "if=none,id=disk0,DRIVE0",
			"-device", "scsi-hd,bus=scsi0.0,scsi-id=0,drive=disk0",
			"-drive", "if=none,id=disk1,DRIVE1",
			"-device", "scsi-hd,bus=scsi0.0,scsi-id=1,drive=disk1",
		}},
		"second card": {tail(machineArgs(edge01, two), 16)[:6], []string{
			"-device", "pcie-root-port,id=port4,chassis=4,slot=224",
			"-netdev", "NET1,id=net1",
			"-device", "vmxnet3,bus=port4,netdev=net1,mac=00:50:56:0e:d9:02",
		}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, want := range []string{"if=pflash,format=raw,file=vars", "nvme,id=nvme0,bus=port3,serial=VMWare NVME_0000", "nvme-ns,bus=nvme0,nsid=1,drive=disk0"} {
		if args := machineArgs(db01, two); !slices.Contains(args, want) {
			t.Errorf("a UEFI guest's machine has no %s: %q", want, args)
		}
	}
}

func tail(s []string, n int) []string { return s[len(s)-n:] }

func TestTheMirrorIsWhatAptSays(t *testing.T) {
	index := "Debian\tDebian\thttp://mirror.example/debian/\n" +
		"Debian\tDebian-Security\thttp://mirror.example/debian-security/\n" +
		"Somebody\tTools\thttp://tools.example/apt/\n"
	m := parseMirror(index)
	m.options = parseOptions("APT::Architecture \"amd64\";\nAcquire::Check-Date \"false\";\nAcquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::GzipIndexes \"true\";\n")
	wantSources := `deb http://mirror.example/debian/ bookworm main
deb http://mirror.example/debian/ bookworm-updates main
deb http://mirror.example/debian-security/ bookworm-security main
`
	if diff := cmp.Diff(wantSources, m.sources("bookworm")); diff != "" {
		t.Error(diff)
	}
	wantOptions := []string{`Acquire::Check-Date "false"`, `Acquire::http::Proxy "http://proxy.example:3128"`}
	if diff := cmp.Diff(wantOptions, m.options); diff != "" {
		t.Error(diff)
	}
	args := rootArgs(web01, m, "/debs", "/base.tar", "/scratch")
	for _, want := range []string{
		`--aptopt=Acquire::http::Proxy "http://proxy.example:3128"`,
		"--include=open-vm-tools,linux-image-cloud-amd64,busybox,zstd",
		"--setup-hook=sync-in '/debs' /var/cache/apt/archives",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("rootArgs lacks %s: %q", want, args)
		}
	}
	if tail := args[len(args)-3:]; !slices.Equal(tail, []string{"bookworm", "/scratch/root", "-"}) {
		t.Errorf("rootArgs ends with %q", tail)
	}
}

func TestOverlayIsAWholeTarWithLinks(t *testing.T) {
	text, err := overlay(web01.files())
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]string{}
	archive := tar.NewReader(bytes.NewReader(text))
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		read[head.Name] = string(content) + head.Linkname
	}
	if got := len(read); got != len(web01.files()) {
		t.Errorf("%d files, want %d", got, len(web01.files()))
	}
	if got := read["etc/systemd/system/multi-user.target.wants/finish.service"]; got != "../finish.service" {
		t.Errorf("the service is enabled by %q", got)
	}
	if len(text)%512 != 0 || !bytes.Equal(text[len(text)-1024:], make([]byte, 1024)) {
		t.Error("the archive has no end")
	}
}

func TestAnInitrdIsRefusedUnlessOnlyVMwareCanBootIt(t *testing.T) {
	wanted := []string{"vmw_pvscsi", "ext4"}
	has := func(string) (bool, error) { return true, nil }
	lacks := func(string) (bool, error) { return false, nil }
	for name, test := range map[string]struct {
		initrd, builtin []string
		onDisk          func(string) (bool, error)
		ok              bool
	}{
		"as wanted":           {[]string{"ext4", "vmw_pvscsi"}, nil, has, true},
		"built in":            {[]string{"vmw_pvscsi"}, []string{"ext4"}, has, true},
		"driver missing":      {[]string{"ext4"}, nil, has, false},
		"virtio inside":       {[]string{"ext4", "virtio_blk", "vmw_pvscsi"}, nil, has, false},
		"virtio built in":     {[]string{"ext4", "vmw_pvscsi"}, []string{"virtio_scsi"}, has, false},
		"only its bus":        {[]string{"ext4", "vmw_pvscsi"}, []string{"virtio_pci"}, has, true},
		"virtio not anywhere": {[]string{"ext4", "vmw_pvscsi"}, nil, lacks, false},
	} {
		if err := checkModules(wanted, test.initrd, test.builtin, test.onDisk); (err == nil) != test.ok {
			t.Errorf("%s: checkModules = %v, want ok %v", name, err, test.ok)
		}
	}
}

func TestModulesAreNamedByTheirFiles(t *testing.T) {
	got := modules([]string{
		"usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko", "usr/lib/modules/6.1/kernel/x/vmw_pvscsi.ko.xz",
		"usr/lib/modules/6.1/modules.dep", "etc/a.konfig",
	})
	if diff := cmp.Diff([]string{"ext4", "vmw_pvscsi"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyTheCardsOwnAnswerCounts(t *testing.T) {
	nic := web01.NICs[0]
	leased := NIC{MAC: nic.MAC}
	lease := &lan.Lease{Addr: netip.MustParseAddr("192.0.2.50"), Hostname: "web01"}
	firmwares := &lan.Lease{Addr: lease.Addr}
	for name, test := range map[string]struct {
		nic  NIC
		seen lan.Witness
		want bool
	}{
		"nothing":            {nic, lan.Witness{}, false},
		"another address":    {nic, lan.Witness{Answering: []lan.Answer{{Addr: nic.Gateway, MAC: nic.MAC}}}, false},
		"another card":       {nic, lan.Witness{Answering: []lan.Answer{{Addr: nic.Address.Addr(), MAC: "00:50:56:00:00:01"}}}, false},
		"its own":            {nic, lan.Witness{Answering: []lan.Answer{{Addr: nic.Gateway, MAC: nic.MAC}, {Addr: nic.Address.Addr(), MAC: nic.MAC}}}, true},
		"no lease":           {leased, lan.Witness{Answering: []lan.Answer{{Addr: lease.Addr, MAC: nic.MAC}}}, false},
		"a lease and no use": {leased, lan.Witness{Lease: lease}, false},
		"a firmware's lease": {leased, lan.Witness{Lease: firmwares, Answering: []lan.Answer{{Addr: lease.Addr, MAC: nic.MAC}}}, false},
		"a lease in use":     {leased, lan.Witness{Lease: lease, Answering: []lan.Answer{{Addr: lease.Addr, MAC: nic.MAC}}}, true},
	} {
		if got := test.nic.answered(test.seen, "web01"); got != test.want {
			t.Errorf("%s: answered = %v, want %v", name, got, test.want)
		}
	}
}

func TestAGuestIsUpWhenAllThatShowsItIsSeen(t *testing.T) {
	first, second := edge01.NICs[0], edge01.NICs[1]
	answer := func(n NIC) lan.Witness {
		return lan.Witness{Answering: []lan.Answer{{Addr: n.Address.Addr(), MAC: n.MAC}}}
	}
	for name, test := range map[string]struct {
		recipe Recipe
		seen   []lan.Witness
		serial string
		want   bool
	}{
		"one of two cards":   {edge01, []lan.Witness{answer(first), {}}, "", false},
		"both cards":         {edge01, []lan.Witness{answer(first), answer(second)}, "", true},
		"no prompt":          {lost01, []lan.Witness{{}}, "Debian GNU/Linux 12 lost01 ttyS0\n", false},
		"another's prompt":   {lost01, []lan.Witness{{}}, "web01 login: ", false},
		"prompt and no card": {lost01, []lan.Witness{{}}, "lost01 login: ", true},
	} {
		if got := test.recipe.up(test.seen, test.serial); got != test.want {
			t.Errorf("%s: up = %v, want %v", name, got, test.want)
		}
	}
}

func TestTheModulesOfEachInitrdAreReadFromTheConsole(t *testing.T) {
	serial := "+ lsinitramfs /boot/initrd.img-6.1\r\ninitrd 6.1 sd_mod\r\ninitrd 6.1 ext4\r\ninitrd 6.12 xfs\r\nan initrd of 3 words\r\n"
	want := map[string][]string{"6.1": {"ext4", "sd_mod"}, "6.12": {"xfs"}}
	if diff := cmp.Diff(want, parseInitrds(serial)); diff != "" {
		t.Error(diff)
	}
}
