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

	"hyper2kvm/testers/lan"
)

func TestEveryRecipeFillsItsDiskWithoutOverflow(t *testing.T) {
	for _, r := range All {
		if end := r.Disk.start(len(r.Disk.Partitions)); end > r.Disk.Size {
			t.Errorf("%s: partitions end at %d, the disk at %d", r.Name, end, r.Disk.Size)
		}
		if len(r.Disk.Partitions) > 4 {
			t.Errorf("%s: %d primary partitions", r.Name, len(r.Disk.Partitions))
		}
		for i, p := range r.Disk.Partitions {
			if p.Size <= 0 || p.Size%mib != 0 {
				t.Errorf("%s: partition %d has %d bytes, not a multiple of 1 MiB", r.Name, i+1, p.Size)
			}
		}
		if !r.NIC.Address.Contains(r.NIC.Gateway) {
			t.Errorf("%s: gateway %s is off the link %s", r.Name, r.NIC.Gateway, r.NIC.Address)
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
		"address":   func(r *Recipe) { r.NIC.Address = netip.MustParsePrefix("192.0.2.11/24") },
		"partition": func(r *Recipe) { r.Disk.Partitions = slices.Clone(r.Disk.Partitions); r.Disk.Partitions[1].Size -= mib },
		"label":     func(r *Recipe) { r.Disk.Label++ },
		"WWN":       func(r *Recipe) { r.Disk.WWN = "6000c29000000000000000000000000a" },
		"note":      func(r *Recipe) { r.Description += "!" },
	}
	for name, change := range mutants {
		r := web01
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
		own := []string{r.Name, r.UUID, r.Disk.WWN, fmt.Sprint(r.Disk.Label), r.NIC.MAC, r.NIC.Address.String()}
		for _, p := range r.Disk.Partitions {
			own = append(own, p.UUID)
		}
		for _, name := range own {
			if other, taken := owner[name]; taken {
				t.Errorf("%s and %s share %s", other, r.Name, name)
			}
			owner[name] = r.Name
		}
	}
}

func TestThePartitionScriptIsSfdisks(t *testing.T) {
	want := `label: dos
label-id: 0x7a3c91e4
unit: sectors
start=2048, size=7337984, type=83, bootable
start=7340032, size=1048576, type=82
`
	if diff := cmp.Diff(want, web01.partitionScript()); diff != "" {
		t.Error(diff)
	}
}

func TestArguments(t *testing.T) {
	for name, test := range map[string]struct{ got, want []string }{
		"mke2fs": {mke2fsArgs(web01.Disk, 0, "tree", "disk.raw"), []string{
			"-q", "-F", "-t", "ext4", "-U", "3f0e6c1a-8d52-4b7e-a1c4-95d20b6e7f18",
			"-O", "^metadata_csum_seed,^orphan_file", "-E", "offset=1048576", "-d", "tree", "disk.raw", "3668992k",
		}},
		"qemu-img": {vmdkArgs("disk.raw", "web01.vmdk"), []string{
			"convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic", "disk.raw", "web01.vmdk",
		}},
		"finish": {finishArgs(web01, "disk.raw", "said", kernel{"k", "i"})[len(machineArgs(web01, "", "")):], []string{
			"-serial", "file:said", "-kernel", "k", "-initrd", "i", "-append", finishLine,
		}},
		"machine": {machineArgs(web01, "DRIVE", "NET"), []string{
			"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
			"-machine", "q35",
			"-smp", "2", "-m", "1024", "-uuid", "564d7c1e-5f0b-4a1c-9d3a-2b7e8c41f0a6", "-vga", "std",
			"-device", "pcie-root-port,id=port1,chassis=1,slot=1",
			"-device", "pcie-root-port,id=port2,chassis=2,slot=2",
			"-device", "pcie-root-port,id=port3,chassis=3,slot=3",
			"-netdev", "NET",
			"-device", "vmxnet3,bus=port2,netdev=net0,mac=00:50:56:12:c0:10",
			"-device", "pvscsi,id=scsi0,bus=port3",
			"-drive", "if=none,id=disk0,DRIVE",
			"-device", "scsi-hd,bus=scsi0.0,scsi-id=0,drive=disk0",
		}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

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
		"virtio built in":     {[]string{"ext4", "vmw_pvscsi"}, []string{"virtio_pci"}, has, false},
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
	nic := web01.NIC
	for name, test := range map[string]struct {
		seen []lan.Answer
		want bool
	}{
		"nothing":         {nil, false},
		"another address": {[]lan.Answer{{Addr: nic.Gateway, MAC: nic.MAC}}, false},
		"another card":    {[]lan.Answer{{Addr: nic.Address.Addr(), MAC: "00:50:56:00:00:01"}}, false},
		"its own":         {[]lan.Answer{{Addr: nic.Gateway, MAC: nic.MAC}, {Addr: nic.Address.Addr(), MAC: nic.MAC}}, true},
	} {
		if got := answered(lan.Witness{Answering: test.seen}, nic); got != test.want {
			t.Errorf("%s: answered = %v, want %v", name, got, test.want)
		}
	}
}
