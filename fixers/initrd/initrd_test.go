package initrd

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var compressions = []string{"none", "gzip", "bzip2", "lzma", "xz", "lzo", "lz4", "zstd"}

// bodies reads the regular files of one member, named as in the whole initrd.
func bodies(t testing.TB, member []byte, i *Initrd) map[string][]byte {
	t.Helper()
	s := &stream{r: newBytes(member), limit: 1 << 30, raw: true}
	if c, ok := codecOf(member); ok {
		p, err := c.open(member)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		s = &stream{r: p, limit: 1 << 30}
	}
	out := map[string][]byte{}
	for {
		e, err := s.entry()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.mode&typeMask == typeReg && e.name != trailer {
			data, err := io.ReadAll(s.body(e))
			if err != nil {
				t.Fatal(err)
			}
			name, _ := i.Resolve(e.name)
			out[name] = data
		}
		if err := s.skip(e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryCompressionGivesTheSameFiles(t *testing.T) {
	for _, c := range compressions {
		t.Run(c, func(t *testing.T) {
			data := fixture(t, c)
			i := parsed(t, data)
			want := []Member{{Size: int64(len(data)), Compression: c, Entries: 13, Unpacked: i.Members[0].Unpacked}}
			if c == "none" {
				want[0].Size = i.Members[0].Size // without cpio's padding
			}
			if diff := cmp.Diff(want, i.Members); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			resume, err := i.ReadFile("conf/conf.d/resume")
			if err != nil || string(resume) != "RESUME=/dev/sda2\n" {
				t.Errorf("resume = %q, %v", resume, err)
			}
			same, ok := i.Lookup("lib/same")
			if want := (File{Path: "usr/lib/same", Mode: 0o644, Size: 18893}); !ok || same != want {
				t.Errorf("Lookup(lib/same) = %+v, %v, want %+v", same, ok, want)
			}
			if got := [2]string{i.Generator, i.Evidence}; got != [2]string{"initramfs-tools", "conf/initramfs.conf"} {
				t.Errorf("generator %q", got)
			}
			if diff := cmp.Diff([]string{"6.1"}, i.Kernels); diff != "" {
				t.Errorf("kernels: %s", diff)
			}
		})
	}
}

func TestAMemberBehindEachCompressionIsFoundAndWins(t *testing.T) {
	for _, c := range compressions {
		for _, padding := range []int{0, 1, 2, 3, 4, 512} {
			first, behind := fixture(t, c), "gzip"
			if c == "lz4" {
				behind = "lz4" // nothing else may follow it
			}
			if c == "lz4" && padding%4 != 0 {
				continue // the kernel takes it for a block's size
			}
			second, err := compressors[behind](archiveOf(file("conf/modules", "late\n")))
			if err != nil {
				t.Fatal(err)
			}
			data := joined(first, make([]byte, padding), second)
			i := parsed(t, data)
			got, err := i.ReadFile("conf/modules")
			if err != nil || string(got) != "late\n" {
				t.Errorf("%s, %d zeros, %s: conf/modules = %q, %v", c, padding, behind, got, err)
			}
			if c == "lz4" && padding == 0 {
				continue // one member to the kernel
			}
			if last := i.Members[len(i.Members)-1]; last.Offset != int64(len(first)+padding) || last.Size != int64(len(second)) {
				t.Errorf("%s, %d zeros: last member %+v, want it at %d of %d bytes", c, padding, last, len(first)+padding, len(second))
			}
		}
	}
}

func TestMicrocodeInFrontIsAnEarlyMember(t *testing.T) {
	early := archiveOf(withParents(file("kernel/x86/microcode/GenuineIntel.bin", "code"))...)
	i := parsed(t, joined(early, make([]byte, 512-len(early)%512), fixture(t, "zstd")))
	if len(i.Members) != 2 || !i.Members[0].Early || i.Members[1].Early || i.Members[0].Entries != 4 {
		t.Errorf("members %+v", i.Members)
	}
}

func TestTheTreeIsWhatTheKernelMakes(t *testing.T) {
	for _, x := range []struct {
		name string
		data []byte
		want map[string]string // contents; "-" is missing
	}{
		{"a later member wins", joined(archiveOf(dir("etc"), file("etc/x", "1")), archiveOf(file("etc/x", "2"))),
			map[string]string{"etc/x": "2"}},
		{"a file without its folder is left out", archiveOf(file("etc/x", "1")), map[string]string{"etc/x": "-"}},
		{"a folder over a symlink unlinks it", archiveOf(dir("etc"), file("etc/x", "1"), link("conf", "etc"), dir("conf")),
			map[string]string{"etc/x": "1", "conf/x": "-"}},
		{"files go through a symlink", archiveOf(dir("etc"), link("conf", "/./etc"), file("conf/x", "1")),
			map[string]string{"etc/x": "1", "conf/../etc/x": "1"}},
		{"a file replaces a symlink", archiveOf(dir("etc"), file("etc/y", "y"), link("etc/x", "y"), file("etc/x", "1")),
			map[string]string{"etc/x": "1", "etc/y": "y"}},
		{"a full folder stays", archiveOf(dir("etc"), file("etc/x", "1"), link("etc", "dev"), file("etc", "2")),
			map[string]string{"etc/x": "1"}},
		{"a loop leads nowhere", archiveOf(link("conf", "etc"), link("etc", "conf"), file("etc/x", "1")),
			map[string]string{"etc/x": "-"}},
		{"equal inodes of one archive are one file", joined(archiveOf(dir("etc")),
			hardLinks(file("etc/a", ""), file("etc/b", "body"))),
			map[string]string{"etc/a": "body", "etc/b": "body"}},
		{"and of two archives are not", joined(archiveOf(dir("etc")),
			hardLinks(file("etc/a", "1")), hardLinks(file("etc/b", "2"))),
			map[string]string{"etc/a": "1", "etc/b": "2"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			i := parsed(t, x.data)
			for name, want := range x.want {
				got, err := i.ReadFile(name)
				if errors.Is(err, fs.ErrNotExist) {
					got, err = []byte("-"), nil
				}
				if err != nil || string(got) != want {
					t.Errorf("ReadFile(%q) = %q, %v, want %q", name, got, err, want)
				}
			}
		})
	}
}

func TestResolveNamesPlacesThatDoNotExist(t *testing.T) {
	i := parsed(t, archiveOf(dir("usr"), dir("usr/lib"), link("lib", "usr/lib"), link("var", "no/such")))
	for name, want := range map[string]string{
		"lib/modules/6.1/x": "usr/lib/modules/6.1/x",
		"/lib":              "usr/lib",
		"var/x":             "no/such/x",
		"..":                "",
	} {
		if got, ok := i.Resolve(name); !ok || got != want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", name, got, ok, want)
		}
	}
}

func TestParseRefusesWhatTheKernelWouldStopAt(t *testing.T) {
	tiny := fixture(t, "none")
	hugeXZ := fixture(t, "xz")
	hugeXZ[12+4] = 40 // a dictionary of 4 GiB
	hugeLzma := fixture(t, "lzma")
	copy(hugeLzma[1:5], "\xff\xff\xff\xff")
	for name, x := range map[string]struct {
		data   []byte
		limits Limits
		want   error
	}{
		"nothing":            {nil, Limits{}, ErrFormat},
		"zeros":              {make([]byte, 64), Limits{}, ErrFormat},
		"another format":     {[]byte("070707 odc"), Limits{}, ErrFormat},
		"junk behind":        {joined(fixture(t, "gzip"), []byte("junk")), Limits{}, ErrFormat},
		"unaligned raw":      {joined(fixture(t, "gzip"), []byte{0}, tiny), Limits{}, ErrFormat},
		"a cut body":         {tiny[:9000], Limits{}, ErrFormat},
		"a cut header":       {tiny[:200], Limits{}, ErrFormat},
		"cut gzip":           {fixture(t, "gzip")[:5000], Limits{}, ErrFormat},
		"cut xz":             {fixture(t, "xz")[:1000], Limits{}, ErrFormat},
		"cut zstd":           {fixture(t, "zstd")[:5000], Limits{}, ErrFormat},
		"cut lz4":            {fixture(t, "lz4")[:5000], Limits{}, ErrFormat},
		"cut lzo":            {fixture(t, "lzo")[:5000], Limits{}, ErrFormat},
		"cut bzip2":          {fixture(t, "bzip2")[:5000], Limits{}, ErrFormat},
		"cut lzma":           {fixture(t, "lzma")[:1000], Limits{}, ErrFormat},
		"xz's dictionary":    {hugeXZ, Limits{}, ErrFormat},
		"lzma's dictionary":  {hugeLzma, Limits{}, ErrFormat},
		"lz4's other frame":  {[]byte("\x04\x22\x4d\x18"), Limits{}, ErrFormat},
		"too much unpacked":  {fixture(t, "gzip"), Limits{Unpacked: 10_000}, ErrLimit},
		"too many entries":   {tiny, Limits{Entries: 12}, ErrLimit},
		"too many members":   {joined(tiny, tiny, tiny), Limits{Members: 2}, ErrLimit},
		"compressed ext2":    {mustPack(t, "gzip", make([]byte, 4096), []byte("ext2")), Limits{}, ErrFormat},
		"a folder's symlink": {archiveOf(symlinkMaze()...), Limits{}, ErrLimit},
	} {
		if _, err := Parse(x.data, x.limits); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
}

func mustPack(t testing.TB, compression string, parts ...[]byte) []byte {
	t.Helper()
	data, err := compressors[compression](joined(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// symlinkMaze costs thousands of steps for each of its names.
func symlinkMaze() []item {
	items := []item{dir("a"), link("a/l", strings.Repeat("../a/", 700))}
	for range 40_000 {
		items = append(items, file("a/l/l/l/x", ""))
	}
	return items
}

func TestContentsAreKeptForConfigurationOnly(t *testing.T) {
	data := archiveOf(withParents(file("etc/a", "1"), file("usr/bin/b", "2"), file("etc/big", strings.Repeat("x", keptText+1)))...)
	i := parsed(t, data)
	if got, err := i.ReadFile("etc/a"); err != nil || string(got) != "1" {
		t.Errorf("etc/a = %q, %v", got, err)
	}
	for _, name := range []string{"usr/bin/b", "etc/big"} {
		if _, err := i.ReadFile(name); !errors.Is(err, ErrNotKept) {
			t.Errorf("%s: %v, want ErrNotKept", name, err)
		}
	}
	small, err := Parse(archiveOf(withParents(file("etc/a", "1234"), file("etc/b", "5678"))...), Limits{Kept: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := small.ReadFile("etc/b"); !errors.Is(err, ErrNotKept) {
		t.Errorf("etc/b over the limit: %v, want ErrNotKept", err)
	}
}

func TestGeneratorsAreToldByTheirFiles(t *testing.T) {
	for want, name := range map[string]string{
		"initramfs-tools": "conf/arch.conf",
		"dracut":          "usr/lib/dracut/build-parameter.txt",
		"mkinitcpio":      "init_functions",
		"":                "init",
	} {
		if got := parsed(t, archiveOf(withParents(file(name, ""))...)).Generator; got != want {
			t.Errorf("with %s: %q, want %q", name, got, want)
		}
	}
}

func TestUnstableNamesAreFoundWhereTheyCount(t *testing.T) {
	byPath := "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2"
	hook := `var/lib/dracut/hooks/initqueue/finished/devexists-\x2fdev\x2fsdb3.sh`
	warning := `var/lib/dracut/hooks/emergency/80-\x2fdev\x2fdisk\x2fby-path\x2fpci-0000:03:00.0-scsi-0:0:0:0-part2.sh`
	unit := `etc/systemd/system/dev-disk-by\x2dpath-pci\x2d0000:03:00.0\x2dscsi\x2d0:0:0:0.device.d/timeout.conf`
	i := parsed(t, archiveOf(withParents(
		file("conf/conf.d/resume", "RESUME=/dev/sda5\n"),
		file("cryptroot/crypttab", "# /dev/sdz1 was\nroot UUID=1 none luks\nswap "+byPath+" none\n"),
		file("etc/cmdline.d/95root.conf", `root="`+byPath+`"`),
		file("etc/multipath/bindings", "mpatha 36000c2912345678901234567890abcde\n"),
		file("etc/lvm/devices/system.devices", "IDTYPE=sys_wwid IDNAME=naa.6000c2912345678901234567890abcde DEVNAME=/dev/sda3 PVID=x\n"),
		file("etc/fstab", "UUID=2 / ext4 defaults 0 1\n/dev/disk/by-id/scsi-36000c2912345678901234567890abcde-part1 /x xfs\n/dev/mapper/vg-root /y\n/dev/sdabc /z"),
		file(hook, `[ -e "/dev/sdb3" ]`),
		file(warning, ""),
		file(unit, "[Unit]\n"),
		file("usr/bin/tool", "/dev/sda"),
		file("etc/mdadm/mdadm.conf", "DEVICE partitions\nDEVICE /dev/nvme0n1p2 /dev/hda\n"),
	)...))
	var got []string
	for _, f := range i.UnstableNames() {
		got = append(got, f.Path+":"+string(rune('0'+f.Line))+" "+f.Name)
	}
	want := []string{
		"conf/conf.d/resume:1 /dev/sda5",
		"cryptroot/crypttab:3 " + byPath,
		"etc/cmdline.d/95root.conf:1 " + byPath,
		"etc/fstab:2 /dev/disk/by-id/scsi-36000c2912345678901234567890abcde-part1",
		"etc/fstab:4 /dev/sdabc",
		"etc/lvm/devices/system.devices:1 naa.6000c2912345678901234567890abcde",
		"etc/lvm/devices/system.devices:1 /dev/sda3",
		"etc/mdadm/mdadm.conf:2 /dev/nvme0n1p2",
		"etc/mdadm/mdadm.conf:2 /dev/hda",
		"etc/multipath/bindings:1 36000c2912345678901234567890abcde",
		unit + ":0 /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0",
		warning + ":0 " + byPath,
		hook + ":0 /dev/sdb3",
		hook + ":1 /dev/sdb3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// fuzzed are limits under which one input costs little.
var fuzzed = Limits{Unpacked: 1 << 20, Entries: 500, Members: 4, Kept: 1 << 20}

func FuzzParse(f *testing.F) {
	small := archiveOf(dir("etc"), link("conf", "etc"), file("conf/x", "/dev/sda1\n"))
	for _, c := range compressions {
		if pack, ok := compressors[c]; ok {
			data, err := pack(small)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
			continue
		}
		f.Add(fixture(f, c))
	}
	f.Add(joined(small, small))
	f.Add(hardLinks(file("a", "1"), file("b", "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := Parse(data, fuzzed)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrLimit) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		i.UnstableNames()
		for _, m := range i.Members {
			if m.Offset < 0 || m.Size < 0 || m.Offset+m.Size > i.Size {
				t.Fatalf("a member outside of the initrd: %+v", m)
			}
			goneOnWith(t, data, m.Offset, fuzzed)
		}
	})
}

// FuzzSupplement holds a supplement to what it promises for any initrd that is
// not compressed.
func FuzzSupplement(f *testing.F) {
	f.Add(vmwareInitrd())
	f.Add(archiveOf(link("lib", "usr/lib"), dir("usr"), link("usr/lib", "../x"), dir("x"), link("x/modules", "/lib")))
	tree := guestModules(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := Parse(data, fuzzed)
		if err != nil || i.Members[len(i.Members)-1].Compression != "none" {
			return
		}
		s, err := i.Supplement(tree, version, virtio, nil)
		if err != nil {
			return
		}
		again, err := Parse(joined(data, s.Bytes), Limits{})
		if err != nil {
			t.Fatalf("with its supplement: %v", err)
		}
		if missing, _, err := again.Missing(tree, version, virtio); err != nil || len(missing) > 0 {
			t.Fatalf("with its supplement: missing %q, %v", missing, err)
		}
	})
}
