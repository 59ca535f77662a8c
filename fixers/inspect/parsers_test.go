package inspect

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/pipeline/machine"
)

func TestFstabIsReadAsTheGuestReadsIt(t *testing.T) {
	got := ParseFstab([]byte("# UUID=1 /old ext4\n\n  UUID=1\t/  ext4 defaults,x-systemd.device-timeout=0 0 1\r\n" +
		`LABEL=a\040b /srv/a\011b\134c xfs` + "\nlonely\n" + `/dev/sda\04 /bad\999 ext4`))
	want := []FstabEntry{
		{3, "UUID=1", "/", "ext4", "defaults,x-systemd.device-timeout=0"},
		{4, "LABEL=a b", "/srv/a\tb\\c", "xfs", ""},
		{6, `/dev/sda\04`, `/bad\999`, "ext4", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if e := got[0]; !e.Has("x-systemd.device-timeout") || e.Has("default") {
		t.Errorf("options of %+v are not told apart", e)
	}
}

const nestedMenu = `
set default='0>1' # by hand
menuentry_id_option="--id"
if [ "${next_entry}" ]; then set default="${next_entry}"; fi
function x {
	linux /not-an-entry
}
submenu "Old; \"quoted\" {" --id old {
	menuentry 'first' --id=odd {
		insmod gzio; insmod xzio
		linux16 ($root)/vmlinuz-1 root=UUID=1 "a b" ro
		initrd16 /ucode.img /initrd-1
	}
	menuentry 'no kernel' {
		halt
	}
	menuentry 'second' --class os $menuentry_id_option 'two' {
		if true; then
			linuxefi /vmlinuz-2
		fi
	}
}
menuentry third --hotkey=r { linux /one-line }
}
menuentry 'fourth' {
	linux	/vmlinuz-4	root=/dev/sda1
`

func TestGrubMenuIsNumberedAsGrubDoes(t *testing.T) {
	got := ParseGrubCfg([]byte(nestedMenu + "}\n"))
	want := GrubMenu{Default: "0>1", Entries: []BootEntry{
		{Title: "first", Path: []int{0, 0}, Linux: "($root)/vmlinuz-1", Options: "root=UUID=1 a b ro", Initrds: []string{"/ucode.img", "/initrd-1"}, Line: 11},
		{Title: "second", ID: "two", Path: []int{0, 2}, Linux: "/vmlinuz-2", Line: 19},
		{Title: "fourth", Path: []int{2}, Linux: "/vmlinuz-4", Options: "root=/dev/sda1", Line: 26},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("menu (-want +got):\n%s", diff)
	}
	for name, index := range map[string]int{"0>2": 1, "two": 1, "old>two": 1, "fourth": 2, "2": 2, "1": 0, "": 0, "gone": 0} {
		if i := pick(got.Entries, name); i != index {
			t.Errorf("default %q is entry %d, want %d", name, i, index)
		}
	}
}

func TestVersionsAreOrderedByTheirNumbers(t *testing.T) {
	sorted := []string{"", "5.9", "5.14.0-70.el9", "5.14.0-503.el9", "5.14.0-503.el9_1", "6.1"}
	mixed := slices.Clone(sorted)
	slices.Reverse(mixed)
	slices.SortFunc(mixed, compareVersions)
	if diff := cmp.Diff(sorted, mixed); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestOldReleaseFilesAreRead(t *testing.T) {
	for _, c := range []struct {
		archive string
		want    OS
	}{
		{"-- x/etc/redhat-release --\nRed Hat Enterprise Linux Server release 5.11 (Tikanga)\n",
			OS{Distro: "rhel", Version: "5.11", Name: "Red Hat Enterprise Linux Server release 5.11 (Tikanga)", Source: "/etc/redhat-release"}},
		{"-- x/etc/SuSE-release --\nSUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n-- x/etc/HOSTNAME --\nold.example.com\n",
			OS{Distro: "sles", Version: "11.4", Name: "SUSE Linux Enterprise Server 11 (x86_64)", Hostname: "old.example.com", Source: "/etc/SuSE-release"}},
		{"-- x/etc/lsb-release --\nDISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\nDISTRIB_DESCRIPTION=\"Ubuntu 10.04.4 LTS\"\n-- x/etc/debian_version --\nsqueeze/sid\n",
			OS{Distro: "ubuntu", Version: "10.04", Name: "Ubuntu 10.04.4 LTS", Source: "/etc/lsb-release"}},
		{"-- x/etc/debian_version --\n6.0.10\n",
			OS{Distro: "debian", Version: "6.0.10", Name: "Debian GNU/Linux 6.0.10", Source: "/etc/debian_version"}},
		{"-- x/etc/arch-release --\n", OS{Distro: "arch", Name: "Arch Linux", Source: "/etc/arch-release"}},
		{"-- x/etc/os-release -> os-release --\n-- x/etc/alpine-release --\n3.2.0\n",
			OS{Distro: "alpine", Version: "3.2.0", Name: "Alpine Linux 3.2.0", Source: "/etc/alpine-release"}},
	} {
		c.want.Family = Linux
		got := openFiles(grown(t, c.archive)).linuxOS()
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s(-want +got):\n%s", c.archive, diff)
		}
	}
}

// grown is the tree below x of an archive's text.
func grown(t *testing.T, text string) *tree.FS {
	t.Helper()
	f, err := tree.Parse(txtar.Parse([]byte(text)), "x")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLoopsOfLinksAreProblems(t *testing.T) {
	f := openFiles(grown(t, "-- x/etc/hostname -> hostname --\n"))
	if got := f.hostname(); got != "" || len(f.problems) != 1 || f.problems[0].Source != "/etc/hostname" {
		t.Errorf("hostname %q, problems %v, want one about /etc/hostname", got, f.problems)
	}
}

func TestFoldersWithTooManyFilesAreProblems(t *testing.T) {
	var text strings.Builder
	for i := range maxFiles + 5 {
		fmt.Fprintf(&text, "-- x/etc/udev/rules.d/%04d.rules --\n", i)
	}
	f := openFiles(grown(t, text.String()))
	if got := len(f.glob("/etc/udev/rules.d/*.rules")); got != maxFiles || len(f.problems) != 1 {
		t.Errorf("%d files and problems %v, want %d and one", got, f.problems, maxFiles)
	}
}

func TestOversizedFilesAreProblems(t *testing.T) {
	f := openFiles(grown(t, "-- x/etc/hostname --\n"+strings.Repeat("x", maxConfig+1)+"\n"))
	if got := f.hostname(); got != "" || len(f.problems) != 1 {
		t.Errorf("hostname of %d bytes, problems %v, want none and one", len(got), f.problems)
	}
}

func TestLiloOffersItsImages(t *testing.T) {
	f := openFiles(grown(t, `-- x/etc/lilo.conf --
# LILO
boot = /dev/sda
append="vt.default_utf8=0"
initrd = /boot/initrd.gz
default = new
image = /boot/vmlinuz
	root = /dev/sda1
	label = old
	append = "quiet"
image=/boot/vmlinuz-new
	label=new
	initrd=/boot/initrd-new
-- x/boot/vmlinuz -> vmlinuz-huge-4.4.14 --
-- x/boot/vmlinuz-huge-4.4.14 --
-- x/boot/initrd.gz --
-- x/boot/vmlinuz-new --
`))
	got := f.entries(Facts{Bootloaders: []Bootloader{{Kind: "lilo", Config: "/etc/lilo.conf"}}}, nil)
	want := []offer{
		{image: "/boot/vmlinuz-huge-4.4.14", initrd: "/boot/initrd.gz", options: "quiet", source: "/etc/lilo.conf:6"},
		{image: "/boot/vmlinuz-new", initrd: "/boot/initrd-new", source: "/etc/lilo.conf:10", chosen: true, problems: []string{"/boot/initrd-new is not there"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(offer{})); diff != "" {
		t.Errorf("offers (-want +got):\n%s", diff)
	}
}

// program is a small EFI program with text sections.
func program(t *testing.T, sections ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(append([]byte("MZ"), make([]byte, 0x3a)...))
	put(uint32(0x40))
	b.WriteString("PE\x00\x00")
	put(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections))})
	at := uint32(0x40 + 4 + 20 + 40*len(sections))
	for _, s := range sections {
		h := pe.SectionHeader32{SizeOfRawData: uint32(len(s[1])), PointerToRawData: at}
		copy(h.Name[:], s[0])
		put(h)
		at += uint32(len(s[1]))
	}
	for _, s := range sections {
		b.WriteString(s[1])
	}
	return b.Bytes()
}

func TestUnifiedKernelImagesTellTheirVersionAndDrivers(t *testing.T) {
	arch, _ := load(t, "testdata/arch-systemd-boot.txtar")
	if err := arch.Mount("disk0p1", "/"); err != nil {
		t.Fatal(err)
	}
	initrd, err := arch.ReadFile("/initramfs-linux-fallback.img", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	f := grown(t, "")
	for _, dir := range []string{"/boot", "/boot/EFI", "/boot/EFI/Linux"} {
		if err := f.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WriteFile("/boot/EFI/Linux/a.efi", 0, program(t, [2]string{".uname", "6.12.1-arch1-1\x00"}, [2]string{".initrd", string(initrd)}, [2]string{".cmdline", "quiet root=PARTUUID=1\n"})); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteFile("/boot/EFI/Linux/b.efi", 0, []byte("junk")); err != nil {
		t.Fatal(err)
	}
	o := openFiles(f)
	var facts Facts
	esps := o.espFolders(facts)
	facts.Bootloaders = o.bootloaders(esps)
	got, err := o.kernels(t.Context(), facts, o.entries(facts, esps))
	if err != nil || len(got) != 2 {
		t.Fatalf("kernels %+v, error %v, want two", got, err)
	}
	if k := got[0]; k.Version != "6.12.1-arch1-1" || k.Drivers["virtio_blk"] != InInitrd || k.Generator != "mkinitcpio" || k.Options != "quiet root=PARTUUID=1" || !k.Default || !strings.Contains(k.Problem, "inside the image") {
		t.Errorf("kernel %+v", k)
	}
	if k := got[1]; k.Default || k.Version != "" || !strings.Contains(k.Problem, "EOF") {
		t.Errorf("junk is read as kernel %+v", k)
	}
}

func TestArchitectureComesFromTheELFHeader(t *testing.T) {
	header := func(data elf.Data, order binary.ByteOrder, machine elf.Machine) []byte {
		h := make([]byte, 64)
		copy(h, elf.ELFMAG)
		h[elf.EI_DATA] = byte(data)
		order.PutUint16(h[18:], uint16(machine))
		return h
	}
	for want, h := range map[string][]byte{
		"amd64": header(elf.ELFDATA2LSB, binary.LittleEndian, elf.EM_X86_64),
		"i386":  header(elf.ELFDATA2LSB, binary.LittleEndian, elf.EM_386),
		"arm64": header(elf.ELFDATA2LSB, binary.LittleEndian, elf.EM_AARCH64),
		"s390x": header(elf.ELFDATA2MSB, binary.BigEndian, elf.EM_S390),
		"":      []byte("\x7fELF and no more"),
	} {
		if got := elfArch(h); got != want {
			t.Errorf("elfArch(% x) = %q, want %q", h[:min(20, len(h))], got, want)
		}
	}
}

func TestUdevRulesAreSplitIntoParts(t *testing.T) {
	for rule, want := range map[string]Pin{
		`SUBSYSTEM=="net", ATTR{address}=="00:50:56:AA:bb:cc", KERNELS=="0000:0b:00.0", DRIVERS=="vmxnet3", NAME:="lan0"`: {Name: "lan0", MAC: "00:50:56:aa:bb:cc", Path: "0000:0b:00.0", Driver: "vmxnet3", Kind: "udev-rule"},
		`KERNEL=="eth?", SYSFS{address}=="00:50:56:aa:bb:cc", SUBSYSTEM=="net" NAME="eth1"`:                               {Name: "eth1", MAC: "00:50:56:aa:bb:cc", Kind: "udev-rule"},
	} {
		if got, ok := pinOf(ParseUdevRule(rule)); !ok || got != want {
			t.Errorf("%s\npins %+v, %v, want %+v", rule, got, ok, want)
		}
	}
	for _, rule := range []string{`# SUBSYSTEM=="net", NAME="x"`, `SUBSYSTEM=="block", NAME="x"`, `SUBSYSTEM!="net", NAME="x"`, `SUBSYSTEM=="net", NAME=="x"`, ""} {
		if got, ok := pinOf(ParseUdevRule(rule)); ok {
			t.Errorf("%s\npins %+v, want none", rule, got)
		}
	}
}

func TestUnitsKeepSectionsApart(t *testing.T) {
	text := "[Match]\nName=eth0 \\\n# within\n  eth1\n[Route]\nGateway=192.0.2.9\nDestination=10.0.0.0/8\n[Route]\nGateway=192.0.2.1\nDestination=0.0.0.0/0\n[Address]\nAddress=192.0.2.5/24\n; end\nno setting\n"
	got := networkOf("/f", ParseUnit([]byte(text)))
	want := Interface{Name: "eth0  eth1", Method: "static", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24")}, Gateway: netip.MustParseAddr("192.0.2.1"), Stack: "networkd", By: ByNetworkd, Source: "/f:2"}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("interface (-want +got):\n%s", diff)
	}
}

func TestInterfacesIncludeEachOther(t *testing.T) {
	f := openFiles(grown(t, `-- x/etc/network/interfaces --
source interfaces.d/*.cfg
source-directory /etc/network/more
source /etc/network/interfaces
mapping eth*
	script /x
iface eth9 inet static
	address 203.0.113.9
	netmask 255.255.254.0
	gateway nonsense
-- x/etc/network/interfaces.d/a.cfg --
iface eth0 \
  inet dhcp
-- x/etc/network/interfaces.d/b --
iface ignored inet dhcp
-- x/etc/network/more/c --
iface eth1 inet6 auto
-- x/etc/network/more/c~ --
iface backup inet dhcp
`))
	var got []string
	for _, i := range f.ifupdown() {
		got = append(got, fmt.Sprintf("%s %s %v %v %s", i.Name, i.Method, i.Addresses, i.Gateway.IsValid(), i.Source))
	}
	want := []string{
		"eth0 dhcp [] false /etc/network/interfaces.d/a.cfg:1",
		"eth1 auto [] false /etc/network/more/c:1",
		"eth9 static [203.0.113.9/23] false /etc/network/interfaces:6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

// TestHostileFilesAreReadInTimeThatGrowsWithTheirSize measures bytes allocated
// instead of time: four times the file may cost four times as much, and never
// sixteen times.
func TestHostileFilesAreReadInTimeThatGrowsWithTheirSize(t *testing.T) {
	for _, line := range []string{"\\\n", "a \\\n", "source /*/*/*\n", "iface x inet static\n", "options a\n", "PATCHLEVEL=1\n", "a b\n", "menuentry x {\n", "}\n", "vmware\n", "UUID=1 x\n",
		"A='b'\n", "address1=192.0.2.1/24\n", "default 192.0.2.1\n"} {
		small, large := readingCost(t, line, 64<<10), readingCost(t, line, 256<<10)
		if large > 8*small {
			t.Errorf("lines %q cost %d bytes for 64 KiB and %d for 256 KiB", line, small, large)
		}
	}
}

// readingCost is how many bytes are allocated to read size bytes of a line
// repeated, by every parser.
func readingCost(t *testing.T, line string, size int) uint64 {
	t.Helper()
	text := strings.Repeat(line, size/len(line))
	f := openFiles(grown(t, "-- x/etc/network/interfaces --\n"+text+"-- x/etc/modprobe.d/a.conf --\n"+text+"-- x/etc/SuSE-release --\n"+text))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f.ifupdown()
	f.vmware(nil)
	f.linuxOS()
	f.mounts(Facts{}, machine.Machine{}, sight{fstab: []byte(text)})
	ParseUnit([]byte(text))
	ParseGrubCfg([]byte(text))
	parseBLS([]byte(text))
	profileOf("/f", ParseKeyfile([]byte(text)))
	suseInterface("eth0", "/f", sysconfigOf([]byte(text)))
	suseDefaults(splitLines([]byte(text)))
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestPackageListsNameWhatIsInstalled(t *testing.T) {
	all := parseDpkg("Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 2\n\nPackage: c\nStatus: install ok half-configured\nVersion: 3\n\nPackage: d\nStatus: unknown ok not-installed\n\n\n")
	all = append(all, parseAPK("P:e\nV:5\n\nV:6\n")...)
	all = append(all, parsePacman("open-vm-tools-6:12.5.0-1"), parsePacman("odd"))
	var got []string
	for _, p := range all {
		got = append(got, p.name+" "+p.version)
	}
	if diff := cmp.Diff([]string{"a 1", "c 3", "e 5", "open-vm-tools 6:12.5.0-1", "odd "}, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

func TestTheInitrdIsNotWhatTunedLoadsBehindIt(t *testing.T) {
	files := tree.New()
	if err := files.Mkdir("/boot", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vmlinuz", "microcode.img", "initramfs.img", "tuned-initrd.img"} {
		if err := files.WriteFile("/boot/"+name, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, behind := range []string{"$tuned_initrd", "${tuned_initrd}", "/tuned-initrd.img"} {
		e := BootEntry{Linux: "/vmlinuz", Initrds: []string{"/microcode.img", "/initramfs.img", behind}}
		o := openFiles(files).offer(e, []string{"/boot"})
		if o.initrd != "/boot/initramfs.img" || len(o.problems) > 0 {
			t.Errorf("with %s behind: initrd %q, problems %v", behind, o.initrd, o.problems)
		}
	}
}

func TestTheDebuggersCopyOfSUSEsKernelIsNoKernel(t *testing.T) {
	files := tree.New()
	if err := files.Mkdir("/boot", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vmlinuz-5.3.18-59-default", "initrd-5.3.18-59-default", "vmlinux-5.3.18-59-default.gz"} {
		if err := files.WriteFile("/boot/"+name, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	kernels := openFiles(files).withImages(nil)
	if len(kernels) != 1 || kernels[0].Initrd != "/boot/initrd-5.3.18-59-default" {
		t.Errorf("kernels %+v, want the one with an initrd", kernels)
	}
}

func TestBootsAreCountedInTheNameOfAnEntry(t *testing.T) {
	for name, want := range map[string]struct {
		id        string
		exhausted bool
	}{
		"arch": {"arch", false}, "arch+3": {"arch", false}, "arch+2-1": {"arch", false}, "arch+0-3": {"arch", true},
		"5.10+deb": {"5.10+deb", false}, "a+1+0": {"a+1", true}, "a+": {"a+", false}, "+00": {"", true}, "a+-1": {"a+-1", false},
	} {
		if id, exhausted := withoutCounter(name); id != want.id || exhausted != want.exhausted {
			t.Errorf("withoutCounter(%q) = %q, %v, want %+v", name, id, exhausted, want)
		}
	}
}

func TestTheMenuIsInTheSpecificationsOrder(t *testing.T) {
	sorted := []choice{
		{id: "a.conf", sortKey: "arch", offer: offer{version: "6.9"}},
		{id: "b.conf", sortKey: "debian", machine: "1", offer: offer{version: "6.1.10"}},
		{id: "c.conf", sortKey: "debian", machine: "1", offer: offer{version: "6.1.9"}},
		{id: "d.conf", sortKey: "debian", machine: "2", offer: offer{version: "6.12"}},
		{id: "z-10.conf"},
		{id: "z-9.conf"},
		{id: "tried.conf", sortKey: "arch", exhausted: true},
	}
	mixed := slices.Clone(sorted)
	slices.Reverse(mixed)
	slices.SortFunc(mixed, compareChoices)
	for i := range sorted {
		if mixed[i].id != sorted[i].id {
			t.Errorf("place %d has %s, want %s", i, mixed[i].id, sorted[i].id)
		}
	}
}
