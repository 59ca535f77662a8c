package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compressed packs an initrd like a generator would; "raw" compressions that we
// cannot write come from fixtures.
func compressed(t testing.TB, compression string, archive []byte) []byte {
	t.Helper()
	if compression == "none" {
		return archive
	}
	return mustPack(t, compression, archive)
}

func TestMissingTellsModulesThatTheKernelHasFromThoseItLacks(t *testing.T) {
	i := parsed(t, vmwareInitrd())
	missing, absent, err := i.Missing(guestModules(t), version, virtio)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_rng"}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"virtio_scsi"}, absent); diff != "" {
		t.Errorf("absent (-want +got):\n%s", diff)
	}
}

func TestAModuleWithoutItsDependencyIsMissing(t *testing.T) {
	mods := "usr/lib/modules/" + version + "/kernel/drivers/block/"
	i := parsed(t, vmwareInitrd(withParents(file(mods+"virtio_blk.ko", "x"))...))
	missing, _, err := i.Missing(guestModules(t), version, []string{"virtio_blk", "ext4"})
	if err != nil || !slices.Equal(missing, []string{"virtio_blk"}) {
		t.Errorf("missing %q, %v", missing, err)
	}
}

func TestASupplementMakesTheInitrdComplete(t *testing.T) {
	tree := guestModules(t)
	for _, c := range []string{"none", "gzip", "xz", "lz4", "zstd"} {
		t.Run(c, func(t *testing.T) {
			data := compressed(t, c, vmwareInitrd())
			i := parsed(t, data)
			resume := map[string][]byte{"conf/conf.d/resume": []byte("RESUME=UUID=1\n")}
			s, err := i.Supplement(tree, version, virtio, resume)
			if err != nil {
				t.Fatal(err)
			}
			if s.Compression != c || s.Offset != int64(len(data)) {
				t.Errorf("supplement is %s at %d, want %s at %d", s.Compression, s.Offset, c, len(data))
			}
			after := parsed(t, joined(data, s.Bytes))
			missing, absent, err := after.Missing(tree, version, virtio)
			if err != nil || len(missing) > 0 || !slices.Equal(absent, []string{"virtio_scsi"}) {
				t.Errorf("after it: missing %q, absent %q, %v", missing, absent, err)
			}
			again, err := after.Supplement(tree, version, virtio, resume)
			if err != nil || len(again.Bytes) > 0 || len(again.Files) > 0 {
				t.Errorf("a second supplement brings %q, %v", again.Files, err)
			}
			same, err := i.Supplement(tree, version, virtio, resume)
			if err != nil || !bytes.Equal(same.Bytes, s.Bytes) {
				t.Errorf("the same input made other bytes, %v", err)
			}
			if names := after.UnstableNames(); len(names) > 0 {
				t.Errorf("unstable names left: %+v", names)
			}
		})
	}
}

func TestASupplementIsRawAndAlignedWhereWeCannotCompress(t *testing.T) {
	for _, c := range []string{"bzip2", "lzma", "lzo"} {
		data := fixture(t, c)
		if len(data)%4 == 0 {
			data = append(data, 0)
		}
		s, err := parsed(t, data).Supplement(nil, version, nil, map[string][]byte{"conf/modules": []byte("x\n")})
		if err != nil {
			t.Fatal(err)
		}
		after := parsed(t, joined(data, s.Bytes))
		if m := after.Members[1]; s.Compression != "none" || m.Compression != "none" || m.Offset%4 != 0 {
			t.Errorf("%s: supplement %s, member %+v", c, s.Compression, m)
		}
		if got, err := after.ReadFile("conf/modules"); err != nil || string(got) != "x\n" {
			t.Errorf("%s: conf/modules = %q, %v", c, got, err)
		}
	}
}

func TestASupplementHoldsOnlyWhatIsMissing(t *testing.T) {
	data := vmwareInitrd()
	s, err := parsed(t, data).Supplement(guestModules(t), version, virtio, nil)
	if err != nil {
		t.Fatal(err)
	}
	mods := "usr/lib/modules/" + version + "/"
	want := []string{
		"conf/modules",
		mods + "kernel/arch/x86/crypto/crc32c-intel.ko",
		mods + "kernel/drivers/block/virtio_blk.ko",
		mods + "kernel/drivers/char/hw_random/virtio-rng.ko",
		mods + "kernel/drivers/net/virtio_net.ko",
		mods + "kernel/drivers/virtio/virtio.ko",
		mods + "kernel/drivers/virtio/virtio_pci.ko",
		mods + "kernel/drivers/virtio/virtio_ring.ko",
		mods + "modules.alias", mods + "modules.alias.bin",
		mods + "modules.builtin", mods + "modules.builtin.alias.bin",
		mods + "modules.builtin.bin", mods + "modules.builtin.modinfo",
		mods + "modules.dep", mods + "modules.dep.bin",
		mods + "modules.softdep",
		mods + "modules.symbols", mods + "modules.symbols.bin",
	}
	if diff := cmp.Diff(want, s.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	order := []string{"virtio_ring", "virtio", "virtio_pci", "crc32c_intel", "virtio_blk", "virtio_net", "virtio_rng"}
	if diff := cmp.Diff(order, s.Modules); diff != "" {
		t.Errorf("load order (-want +got):\n%s", diff)
	}
	var folders []string
	for _, e := range entries(t, s.Bytes) {
		if e.mode&typeMask == typeDir {
			folders = append(folders, strings.TrimPrefix(e.name, mods+"kernel/"))
		}
	}
	if diff := cmp.Diff([]string{"arch", "arch/x86", "arch/x86/crypto", "drivers/block", "drivers/char", "drivers/char/hw_random", "drivers/net", "drivers/virtio"}, folders); diff != "" {
		t.Errorf("folders (-want +got):\n%s", diff)
	}
}

func entries(t testing.TB, raw []byte) []entry {
	t.Helper()
	s := &stream{r: newBytes(raw), limit: 1 << 30, raw: true}
	var out []entry
	for {
		e, err := s.entry()
		if err != nil {
			return out
		}
		if err := s.skip(e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
}

func TestModulesArrivePlainAndSigned(t *testing.T) {
	data := vmwareInitrd()
	s, err := parsed(t, data).Supplement(guestModules(t), version, virtio, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := contents(t, joined(data, s.Bytes))
	for _, name := range []string{"block/virtio_blk", "virtio/virtio_ring", "virtio/virtio_pci", "net/virtio_net"} {
		got := all["usr/lib/modules/"+version+"/kernel/drivers/"+name+".ko"]
		if want := elf(path.Base(name)); string(got) != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestIndexesCoverTheInitrdAndItsSupplement(t *testing.T) {
	data := vmwareInitrd()
	s, err := parsed(t, data).Supplement(guestModules(t), version, virtio, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := contents(t, joined(data, s.Bytes))
	for name, want := range map[string]string{
		"modules.dep": `kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/fs/ext4/ext4.ko.xz:
kernel/drivers/scsi/vmw_pvscsi.ko.xz:
updates/site.ko: kernel/fs/ext4/ext4.ko.xz
`,
		"modules.alias": `alias virtio:d00000002v* virtio_blk
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias crypto-crc32c crc32c_intel
alias virtio:d00000001v* virtio_net
alias virtio:d00000004v* virtio_rng
alias pci:site* site
`,
		"modules.symbols": "alias symbol:virtqueue_kick virtio_ring\nalias symbol:ext4_x ext4\n",
	} {
		if diff := cmp.Diff(want, string(all["usr/lib/modules/"+version+"/"+name])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestLoadListsAreMerged(t *testing.T) {
	systemd := file("usr/lib/systemd/systemd-modules-load", "")
	for name, x := range map[string]struct {
		initrd []item
		list   string
		want   string
	}{
		"initramfs-tools": {
			withParents(file("conf/initramfs.conf", ""), file("conf/modules", "# loaded first\next4\nvirtio-rng quality=1")),
			"conf/modules",
			"# loaded first\next4\nvirtio-rng quality=1\nvirtio_pci\nvirtio_blk\nvirtio_net\n",
		},
		"dracut": {
			withParents(file("usr/lib/dracut/build-parameter.txt", ""), systemd),
			"etc/cmdline.d/99-hyper2kvm-drivers.conf",
			"rd.driver.pre=virtio_pci\nrd.driver.pre=virtio_blk\nrd.driver.pre=virtio_net\nrd.driver.pre=virtio_rng\n",
		},
		"mkinitcpio": {
			withParents(file("init_functions", ""), file("config", "HOOKS=\"base udev\"\nMODULES=\"virtio_blk btrfs\"\n")),
			"config",
			"HOOKS=\"base udev\"\nMODULES=\"virtio_blk btrfs\"\nMODULES=\"$MODULES virtio_pci virtio_net virtio_rng\"\n",
		},
		"mkinitcpio with systemd": {
			withParents(file("buildconfig", ""), systemd),
			"etc/modules-load.d/hyper2kvm.conf",
			"virtio_pci\nvirtio_blk\nvirtio_net\nvirtio_rng\n",
		},
		"unknown": {withParents(file("init", "")), "", ""},
	} {
		data := archiveOf(x.initrd...)
		s, err := parsed(t, data).Supplement(guestModules(t), version, virtio, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.LoadList != x.list {
			t.Errorf("%s: load list %q, want %q", name, s.LoadList, x.list)
		}
		if x.list == "" {
			continue
		}
		got, err := parsed(t, joined(data, s.Bytes)).ReadFile(x.list)
		if err != nil || string(got) != x.want {
			t.Errorf("%s: %s = %q, %v, want %q", name, x.list, got, err, x.want)
		}
	}
}

func TestAnOverrideLeavesOtherHardLinksAlone(t *testing.T) {
	data := joined(archiveOf(dir("etc")), hardLinks(file("etc/a", ""), file("etc/b", "equal")))
	s, err := parsed(t, data).Supplement(nil, version, nil, map[string][]byte{"etc/b": []byte("other")})
	if err != nil {
		t.Fatal(err)
	}
	after := parsed(t, joined(data, s.Bytes))
	for name, want := range map[string]string{"etc/a": "equal", "etc/b": "other"} {
		if got, err := after.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestAnOverrideKeepsTheModeAndGoesThroughSymlinks(t *testing.T) {
	hook := "lib/dracut/hooks/initqueue/finished/devexists-x.sh"
	data := archiveOf(withParents(
		item{"var/lib/dracut/hooks/initqueue/finished/devexists-x.sh", typeReg | 0o755, `[ -e /dev/sda1 ]`},
		dir("lib"), dir("lib/dracut"), link("lib/dracut/hooks", "/var/lib/dracut/hooks"))...)
	s, err := parsed(t, data).Supplement(nil, version, nil, map[string][]byte{hook: []byte("true\n")})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := parsed(t, joined(data, s.Bytes)).Lookup(hook)
	want := File{Path: "var/" + hook, Mode: 0o755, Size: 5}
	if !ok || got != want {
		t.Errorf("Lookup(%q) = %+v, want %+v", hook, got, want)
	}
}

func TestWhatCannotBeSupplementedIsRefused(t *testing.T) {
	tree := guestModules(t)
	broken := guestModules(t)
	broken["kernel/drivers/virtio/virtio.ko"] = "not a module"
	hostile := guestModules(t)
	hostile["modules.dep"] = "../../../../etc/shadow.ko:\nkernel/x.ko: ../../y.ko\n"
	nested := archiveOf(file("squashfs-root.img", ""))
	for name, x := range map[string]struct {
		initrd   []byte
		tree     ModuleTree
		version  string
		override string
	}{
		"files in an image":        {nested, tree, version, ""},
		"a module that is none":    {vmwareInitrd(), broken, version, ""},
		"no index":                 {vmwareInitrd(), memTree{}, version, ""},
		"a version that is a path": {vmwareInitrd(), tree, "../6.1", ""},
		"a folder as a file":       {vmwareInitrd(), tree, version, "conf"},
		"a file as a folder":       {vmwareInitrd(), tree, version, "conf/modules/x"},
		"the load list":            {vmwareInitrd(), tree, version, "conf/modules"},
	} {
		override := map[string][]byte{}
		if x.override != "" {
			override[x.override] = []byte("x")
		}
		if s, err := parsed(t, x.initrd).Supplement(x.tree, x.version, virtio, override); err == nil {
			t.Errorf("%s: brings %q", name, s.Files)
		}
	}
	if _, err := parsed(t, nested).Supplement(tree, version, virtio, nil); !errors.Is(err, ErrNested) {
		t.Errorf("files in an image: %v, want ErrNested", err)
	}
	_, absent, err := parsed(t, vmwareInitrd()).Missing(hostile, version, []string{"shadow"})
	if err != nil || !slices.Equal(absent, []string{"shadow"}) {
		t.Errorf("a path out of the tree: absent %q, %v", absent, err)
	}
}

func TestASupplementDoesNotChangeWhatIsComplete(t *testing.T) {
	s, err := parsed(t, vmwareInitrd()).Supplement(guestModules(t), version, []string{"ext4", "sd_mod"},
		map[string][]byte{"conf/conf.d/resume": []byte("RESUME=/dev/sda5\n")})
	if err != nil || len(s.Bytes) > 0 {
		t.Errorf("brings %q, %v", s.Files, err)
	}
}

// BenchmarkSupplement takes an initrd of 40 MB and a kernel with as many aliases
// as a distribution's.
func BenchmarkSupplement(b *testing.B) {
	tree := guestModules(b)
	var alias, symbols strings.Builder
	for n := range 30_000 {
		fmt.Fprintf(&alias, "alias pci:v%08Xd%08Xsv*sd*bc*sc*i* virtio_pci\n", n, n)
		fmt.Fprintf(&symbols, "alias symbol:function_%d virtio_ring\n", n)
	}
	tree["modules.alias"], tree["modules.symbols"] = alias.String(), symbols.String()
	for _, c := range []string{"gzip", "xz", "lz4", "zstd"} {
		data := compressed(b, c, vmwareInitrd(file("usr/lib/firmware", noise(40<<20))))
		b.Run(c, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				s, err := parsed(b, data).Supplement(tree, version, virtio, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(s.Bytes)), "bytes")
			}
		})
	}
}

// noise is text that compresses badly.
func noise(size int) string {
	var out strings.Builder
	for n := uint64(1); out.Len() < size; n = n*6364136223846793005 + 1442695040888963407 {
		fmt.Fprintf(&out, "%x", n>>13)
	}
	return out.String()
}

// module-init-tools before 3.4 took the paths of modules.dep as they stand.
func TestAnOldModprobeFindsModulesByTheirFullNames(t *testing.T) {
	const root = "/lib/modules/" + version + "/"
	tree := memTree{
		"modules.dep": root + "a/virtio.ko:\n" + root + "a/virtio_blk.ko: " + root + "a/virtio.ko\n",
		"a/virtio.ko": elf("virtio"), "a/virtio_blk.ko": elf("virtio_blk"),
	}
	data := archiveOf(withParents(file("lib/modules/"+version+"/modules.dep", root+"a/mptspi.ko:\n"), file("lib/modules/"+version+"/a/mptspi.ko", "x"))...)
	s, err := parsed(t, data).Supplement(tree, version, []string{"virtio_blk"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := root + "a/virtio.ko:\n" + root + "a/virtio_blk.ko: " + root + "a/virtio.ko\n" + root + "a/mptspi.ko:\n"
	if got := string(contents(t, joined(data, s.Bytes))["lib/modules/"+version+"/modules.dep"]); got != want {
		t.Errorf("modules.dep is %q, want %q", got, want)
	}
}

func TestASupplementIsNotMadeOfGiants(t *testing.T) {
	giant := "\x7fELF" + strings.Repeat("x", supplementLimit)
	tree := memTree{"modules.dep": "a/virtio_blk.ko:\n", "a/virtio_blk.ko": giant}
	if _, err := parsed(t, archiveOf()).Supplement(tree, version, []string{"virtio_blk"}, nil); !errors.Is(err, ErrLimit) {
		t.Errorf("error %v, want %v", err, ErrLimit)
	}
}
