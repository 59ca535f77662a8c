package linux

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

func TestNoFixerOfLinuxSeesWindows(t *testing.T) {
	for _, f := range Fixers {
		for _, family := range []string{inspect.Windows, ""} {
			if in := (fixer.Input{Facts: inspect.Facts{OS: inspect.OS{Family: family}}}); f.Applies(in) {
				t.Errorf("%s applies to a guest of family %q", f.Name, family)
			}
		}
	}
}

func TestEveryFixerSaysWhatItIs(t *testing.T) {
	var names []string
	for _, f := range Fixers {
		if !strings.HasPrefix(f.Name, "linux/") || f.Why == "" || slices.Contains(names, f.Name) {
			t.Errorf("fixer %q: why %q", f.Name, f.Why)
		}
		names = append(names, f.Name)
	}
}

func TestAHostileInterfaceNameIsNotWritten(t *testing.T) {
	in := fixer.Input{Facts: inspect.Facts{OS: inspect.OS{Family: inspect.Linux, Systemd: 252}}}
	view := guest.NewView(tree.New())
	view.As("test", "test")
	for _, c := range []inspect.Card{{Name: "../../x", MAC: "00:50:56:aa:00:01"}, {Name: "ens192", MAC: "00:50:56:aa:00:01\nName=x"}} {
		if err := pin(view, in, c); err == nil {
			t.Errorf("pin(%+v) wrote %v", c, view.Changes())
		}
	}
}

func TestArgumentsReachEveryKernelOnOffer(t *testing.T) {
	files := tree.New()
	for _, name := range []string{"/boot/grub2/grub.cfg", "/efi/loader/entries/a.conf", "/etc/other.conf"} {
		writeAll(t, files, name, "x")
	}
	in := fixer.Input{Facts: inspect.Facts{
		Bootloaders: []inspect.Bootloader{{Kind: "systemd-boot", Config: "/efi/loader/loader.conf"}},
		Kernels:     []inspect.Kernel{{Image: "/efi/new.efi", Unified: true, Stub: 254}, {Image: "/efi/old.efi", Unified: true, Stub: 253}, {Image: "/boot/vmlinuz"}},
	}}
	view := guest.NewView(files)
	view.As("test", "test")
	if err := AddArguments(view, in, "quiet", func(old []byte) []byte { return append(old, "y"...) }); err != nil {
		t.Fatal(err)
	}
	var changed []string
	for _, c := range view.Changes() {
		if c.After.Kind == guest.File {
			changed = append(changed, c.Path)
		}
	}
	want := []string{"/boot/grub2/grub.cfg", "/efi/loader/entries/a.conf", "/efi/new.efi.extra.d/hyper2kvm-arguments.addon.efi"}
	if !slices.Equal(changed, want) {
		t.Errorf("changed %q, want %q", changed, want)
	}
	data, err := view.ReadFile(want[2], guest.MaxText)
	if err != nil || !bytes.Contains(data, []byte("quiet")) {
		t.Errorf("the addon holds %q, %v", data, err)
	}
}

// hugeGuest is one whose every file is over any limit.
type hugeGuest struct{ *tree.FS }

func (hugeGuest) ReadFile(string, int64) ([]byte, error) { return nil, guest.ErrTooBig }

func TestAFileThatIsTooBigFailsItsFixerAlone(t *testing.T) {
	files := tree.New()
	if err := files.Mkdir("/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := files.WriteFile("/etc/fstab", 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	view := guest.NewView(hugeGuest{files})
	view.As("test", "test")
	if _, err := fstabNames.Plan(t.Context(), view, fixer.Input{}); err == nil || len(view.Changes()) > 0 {
		t.Errorf("err = %v, changes %v", err, view.Changes())
	}
}

func TestAShellWordEndsWhereItDoes(t *testing.T) {
	for text, want := range map[string]string{
		`"a b" c`:       `"a b"`,
		`'a "b' c`:      `'a "b'`,
		`a\ b c`:        `a\ b`,
		`"a\" b" c`:     `"a\" b"`,
		"'a\nb'\nc":     "'a\nb'",
		"a#b":           "a",
		`"never closed`: `"never closed`,
		``:              ``,
	} {
		if got := text[:wordEnd(text)]; got != want {
			t.Errorf("wordEnd(%q) gives %q, want %q", text, got, want)
		}
	}
}

// fuzzInput is a guest with an unstable name for each case: with a UUID, with
// only a PARTUUID, and with neither.
func fuzzInput(t interface{ Fatal(...any) }) fixer.Input {
	var in fixer.Input
	if err := json.Unmarshal([]byte(`{"os": {"family": "linux"}, "topology": {
		"disks": [{"name": "disk0", "partitions": [{"name": "disk0p1", "number": 1, "uuid": "p1"}, {"name": "disk0p2", "number": 2, "uuid": "p2"}, {"name": "disk0p3", "number": 3}]}],
		"filesystems": [{"device": "disk0p1", "type": "ext4", "uuid": "u1"}, {"device": "disk0p2", "type": "swap"}]}}`), &in.Facts); err != nil {
		t.Fatal(err)
	}
	in.Machine.Disks = []machine.Disk{{Serial: "m-disk0"}}
	return in
}

// checkLines says how an edit broke its promise: lines without a reason to be
// changed are the same, their number too, and a second edit changes nothing.
func checkLines(t *testing.T, old, now, again []byte, mayChange func(line string) bool) {
	t.Helper()
	was, is := splitLines(old), splitLines(now)
	if len(was) != len(is) {
		t.Fatalf("%d lines became %d\n%q\n%q", len(was), len(is), old, now)
	}
	for i := range was {
		if was[i] != is[i] && !mayChange(was[i]) {
			t.Errorf("line %q became %q", was[i], is[i])
		}
	}
	if !bytes.Equal(now, again) {
		t.Errorf("a second edit changes it again:\n%q\n%q\n%q", old, now, again)
	}
}

func FuzzFstab(f *testing.F) {
	for _, s := range []string{
		"/dev/sda1 / ext4 defaults 0 1\n", "# /dev/sda1 / ext4\r\n\t/dev/sda2\tnone\tswap\tsw", "/dev/sda3 /x\\040y auto",
		"/dev/\\163da1 / ext4", "UUID=u1 / ext4\n\n/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1 /a b c",
	} {
		f.Add([]byte(s))
	}
	in := fuzzInput(f)
	f.Fuzz(func(t *testing.T, old []byte) {
		now, _ := renameFstab(bytes.Clone(old), in)
		again, _ := renameFstab(bytes.Clone(now), in)
		checkLines(t, old, now, again, func(line string) bool {
			text := strings.TrimLeft(line, " \t")
			return !strings.HasPrefix(text, "#") && strings.ContainsAny(text, "/\\")
		})
		for i, line := range splitLines(old) {
			if _, rest, ok := cutFirst(line); ok && !strings.HasSuffix(splitLines(now)[i], rest) {
				t.Errorf("more than the first field changed: %q became %q", line, splitLines(now)[i])
			}
		}
	})
}

// cutFirst splits a line behind its first field.
func cutFirst(line string) (first, rest string, ok bool) {
	parts := fields(line)
	if len(parts) == 0 {
		return "", "", false
	}
	return line[:parts[0].end], line[parts[0].end:], true
}

func FuzzGrubCfg(f *testing.F) {
	for _, s := range []string{
		"menuentry 'x' {\n\tset root='hd0,msdos1'\n\tlinux /vmlinuz root=/dev/sda1 ro resume=/dev/sda2\n\tinitrd /i\n}\n",
		"linux16 /v root=/dev/sda1\n", "linuxefi /v \"root=/dev/sda3\" \\\n resume='/dev/sda1'\r\n", "options root=/dev/sda1\ninitrd /i",
		"# linux /v root=/dev/sda1", "echo root=/dev/sda1", "LABEL x\n  LINUX v\n  APPEND root=/dev/sda1 initrd=i\n",
		"  set kernelopts=\"root=/dev/sda1 ro \"\n",
	} {
		f.Add([]byte(s))
	}
	in := fuzzInput(f)
	f.Fuzz(func(t *testing.T, old []byte) {
		for _, file := range []string{"grub.cfg", "entry.conf"} {
			now, _ := renameArguments(bytes.Clone(old), file, in)
			again, _ := renameArguments(bytes.Clone(now), file, in)
			checkLines(t, old, now, again, func(line string) bool {
				return strings.Contains(line, "root=") || strings.Contains(line, "resume=")
			})
			for i, line := range splitLines(old) {
				if strings.HasPrefix(strings.TrimSpace(line), "set root=") && (i == 0 || !continued(splitLines(old)[i-1])) && splitLines(now)[i] != line {
					t.Errorf("GRUB's own root changed: %q became %q", line, splitLines(now)[i])
				}
			}
		}
	})
}

func TestDisksAreLetteredAsTheKernelDoes(t *testing.T) {
	for device, want := range map[string]string{"disk0": "da", "disk0p3": "da3", "disk25": "dz", "disk26p10": "daa10", "disk701": "dzz", "disk702": "daaa"} {
		if got, ok := kvmName(device); !ok || got != want {
			t.Errorf("kvmName(%q) = %q, want %q", device, got, want)
		}
	}
	if got, ok := kvmName("vg/root"); ok {
		t.Errorf("a volume is called %q", got)
	}
}

func FuzzLVMFilter(f *testing.F) {
	for _, s := range []string{
		"devices { filter = [ \"a|^/dev/sda|\", \"r|.*|\" ] }", "devices/global_filter=\"r(/dev/v.*)\"\n#x", "devices {\nfilter=[]\n}\ndevices { filter = [\"r|.|\",] }",
	} {
		f.Add([]byte(s))
	}
	in := fuzzInput(f)
	in.Facts.Topology.Volumes = []guest.Volume{{Name: "vg/root", Group: "g"}}
	in.Facts.Topology.Filesystems = append(in.Facts.Topology.Filesystems, guest.Filesystem{Device: "disk0p2", Type: guest.LVMMember, Group: "g"})
	in.Facts.Mounts = append(in.Facts.Mounts, inspect.Mount{Device: "vg/root", Path: "/"})
	f.Fuzz(func(t *testing.T, old []byte) {
		now, _ := passMembers(bytes.Clone(old), "lvm.conf", in)
		again, _ := passMembers(bytes.Clone(now), "lvm.conf", in)
		if !bytes.Equal(now, again) {
			t.Errorf("a second edit changes it again:\n%q\n%q\n%q", old, now, again)
		}
		if len(now) < len(old) {
			t.Errorf("%q lost bytes: %q", old, now)
		}
	})
}

// fuzzCards are two cards of VMware's, one of each driver.
func fuzzCards() *cardNaming {
	return newCardNaming(fixer.Input{Machine: machine.Machine{NICs: []machine.NIC{
		{MAC: "00:50:56:aa:00:01", Model: "vmxnet3", Slot: 192}, {MAC: "00:50:56:aa:00:02", Model: "e1000", Slot: 33}}}})
}

func FuzzNetplan(f *testing.F) {
	for _, s := range []string{
		"network:\n  ethernets:\n    ens192:\n      match: {macaddress: \"00:50:56:aa:00:01\"}\n      set-name: lan0\n",
		"network: {ethernets: {a: {match: {driver: [vmxnet3], name: 'ens*'}, set-name: lan0}}}",
		"network:\n  ethernets:\n    a:\n      match:\n        driver:\n        - vmxnet3\n        - \"vmxnet\" # old\r\n    b:\n      match: {\"driver\": e1000}\n",
		"network:\n  ethernets:\n    é: &x\n      match: {driver: &d vmxnet3}\n    b: *x\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		now := fuzzCards().freeNetplanFile(old, "x.yaml")
		if again := fuzzCards().freeNetplanFile(now, "x.yaml"); !bytes.Equal(now, again) {
			t.Errorf("%q became %q and then %q", old, now, again)
		}
		before, _, errBefore := inspect.ParseNetplan(old)
		after, _, errAfter := inspect.ParseNetplan(now)
		if errBefore == nil && errAfter != nil || len(before) != len(after) {
			t.Fatalf("%q became %q: %v, %v", old, now, errBefore, errAfter)
		}
		for i := range before {
			if before[i].ID != after[i].ID || !slices.Equal(before[i].Addresses, after[i].Addresses) || !maps.Equal(before[i].Values, after[i].Values) {
				t.Errorf("%q became %q: definition %+v became %+v", old, now, before[i], after[i])
			}
		}
	})
}

func FuzzProfiles(f *testing.F) {
	for _, s := range []string{
		"[connection]\ntype=ethernet\n[match]\npath=pci-0000:0b:00.0;\n[ethernet]", "[match]\r\ndriver=|vmxnet3;\r\n\r\n[802-3-ethernet]\r\nmtu=9000\r\n",
		"[connection]\ninterface-name=ens192\n[match]\ndriver=e1000*;\npath=0000:02:01.0", "TYPE=Ethernet\nMATCH_PATH='pci-0000:0b:00.0'\nMATCH_DRIVER=\"vmxnet3\"\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		for what, free := range map[string]func(*cardNaming, []byte) []byte{
			"profile": func(n *cardNaming, old []byte) []byte { return n.freeProfile(old, "x") },
			"ifcfg":   func(n *cardNaming, old []byte) []byte { return n.freeIfcfgFile(old, "x") },
		} {
			now := free(fuzzCards(), bytes.Clone(old))
			if again := free(fuzzCards(), bytes.Clone(now)); !bytes.Equal(now, again) {
				t.Errorf("%s %q became %q and then %q", what, old, now, again)
			}
			kept := splitLines(now)
			for _, line := range splitLines(old) {
				if strings.Contains(line, "path") || strings.Contains(line, "driver") || strings.Contains(line, "MATCH_") || strings.TrimSpace(line) == "" {
					continue
				}
				if !slices.ContainsFunc(kept, func(k string) bool { return strings.TrimRight(k, "\r\n") == strings.TrimRight(line, "\r\n") }) {
					t.Errorf("%s %q lost %q: %q", what, old, line, now)
				}
			}
		}
	})
}

func FuzzUdevRule(f *testing.F) {
	for _, s := range []string{
		`SUBSYSTEM=="net", DRIVERS=="vmxnet3", ATTR{address}=="00:50:56:aa:00:01", NAME="eth0"`,
		`SUBSYSTEM=="net", KERNELS=="0000:0b:00.0", NAME="lan0"`, `KERNEL=="eth*", SYSFS{address}=="x", ID=="0000:0b:00.0" , NAME="eth1"` + "\r\n",
		`# DRIVERS=="vmxnet3", NAME="x"`, `SUBSYSTEM=="net", NAME="eth0", DRIVERS=="e1000"`,
	} {
		f.Add(s)
	}
	in := fixer.Input{}
	f.Fuzz(func(t *testing.T, line string) {
		m := &cardNaming{in: in, cards: &inspect.Cards{All: []inspect.Card{{Name: "lan0", MAC: "00:50:56:aa:00:02"}}}}
		now := m.freeRule(line, "x:1")
		if strings.HasPrefix(strings.TrimSpace(line), "#") && now != line {
			t.Errorf("comment %q became %q", line, now)
		}
		if again := m.freeRule(now, "x:1"); again != now {
			t.Errorf("%q became %q and then %q", line, now, again)
		}
	})
}

func TestAnEnvironmentBlockKeepsItsSizeOrIsLeft(t *testing.T) {
	in := fuzzInput(t)
	in.Facts.Topology.Filesystems[0].UUID = "aaaaaaaa-1111-4111-8111-000000000001"
	full := "# GRUB Environment Block\nkernelopts=root=/dev/sda1 ro\n###"
	now, concerns := renameEnvironment([]byte(full), "grubenv", in)
	if string(now) != full || len(concerns) != 1 || concerns[0].Level != fixer.Blocker {
		t.Errorf("a full block became %q, concerns %+v", now, concerns)
	}
	room := full + strings.Repeat("#", 60)
	now, concerns = renameEnvironment([]byte(room), "grubenv", in)
	if len(now) != len(room) || !bytes.Contains(now, []byte("root=UUID=aaaaaaaa-")) || len(concerns) > 0 {
		t.Errorf("a block with room became %q, concerns %+v", now, concerns)
	}
}

func TestAHostileLineIsRenamedInOnePass(t *testing.T) {
	in := fuzzInput(t)
	// cost is what renaming n names in one line allocates, in bytes: a pass for
	// each name copies the line as often.
	cost := func(n int) uint64 {
		text := strings.Repeat("root=/dev/sda1 ", n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		now, _ := renameIn(text, "grub.cfg", naming(in, true))
		runtime.ReadMemStats(&after)
		if want := strings.Repeat("root=UUID=u1 ", n); now != want {
			t.Fatalf("%d names become %d bytes, want %d", n, len(now), len(want))
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	if few, many := cost(2_000), cost(16_000); many > 16*few {
		t.Errorf("8 times the names take %d times the memory", many/few)
	}
}

func TestDriversAreEnteredInTheFormOfTheSettings(t *testing.T) {
	drivers := []string{"virtio_pci", "virtio_blk"}
	for _, x := range []struct {
		enter     func([]byte, []string) []byte
		old, want string
	}{
		{enterMkinitcpio, "MODULES=\"ext4\"\n", "MODULES=\"ext4\"\n" + whyEntered + "\nMODULES=\"$MODULES virtio_pci virtio_blk\"\n"},
		{enterMkinitcpio, "MODULES=(\n  virtio_pci\n)", "MODULES=(\n  virtio_pci\n)\n" + whyEntered + "\nMODULES+=(virtio_blk)\n"},
		{enterMkinitcpio, "", whyEntered + "\nMODULES+=(virtio_pci virtio_blk)\n"},
		{enterSUSE, "INITRD_MODULES=\"\"\n", "INITRD_MODULES=\"virtio_pci virtio_blk\"\n"},
		{enterSUSE, "# none\n", "# none\n"},
		{enterFeature, "features=\"ata virtio\"\n", "features=\"ata virtio\"\n"},
	} {
		got := x.enter([]byte(x.old), drivers)
		if string(got) != x.want {
			t.Errorf("%q becomes %q, want %q", x.old, got, x.want)
		}
		if again := x.enter(bytes.Clone(got), drivers); !bytes.Equal(again, got) {
			t.Errorf("%q becomes %q the second time", got, again)
		}
	}
}

// An initrd's copy of a file follows what an earlier fixer made of the file, if
// it was a true copy; what differs already is renamed by itself.
func TestTheInitrdsCopyOfAFileFollowsTheFile(t *testing.T) {
	const list, before, after = "/etc/mdadm/mdadm.conf", "IDTYPE=devname IDNAME=/dev/sda1\n", "IDTYPE=sys_wwid IDNAME=x\n"
	for content, want := range map[string]string{before: after, "# old\n" + before: "# old\nIDTYPE=devname IDNAME=/dev/disk/by-uuid/u1\n"} {
		copied := tree.New()
		writeAll(t, copied, list, content)
		rd, err := initrd.Parse(pack(copied), initrd.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		files := tree.New()
		writeAll(t, files, list, before)
		view := guest.NewView(files)
		view.As("linux/earlier", "test")
		if err := view.Write(list, []byte(after)); err != nil {
			t.Fatal(err)
		}
		p := initrdPlan{view: view, in: fuzzInput(t)}
		override := map[string][]byte{}
		if err := p.copies(rd, override); err != nil {
			t.Fatal(err)
		}
		p.renames(inspect.Kernel{}, rd, override)
		if got := string(override[list[1:]]); got != want || len(p.concerns) > 0 {
			t.Errorf("the initrd's %q becomes %q, want %q; concerns %v", content, got, want, p.concerns)
		}
	}
}

// writeAll writes a file and the folders that it is in.
func writeAll(t *testing.T, files *tree.FS, name, content string) {
	t.Helper()
	for i, c := range name {
		if c != '/' || i == 0 {
			continue
		}
		if err := files.Mkdir(name[:i], 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	if err := files.WriteFile(name, 0, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func TestAHostileInitrdIsNotRenamedForHours(t *testing.T) {
	files := tree.New()
	for _, dir := range []string{"/etc", "/etc/cmdline.d"} {
		if err := files.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.WriteFile("/etc/cmdline.d/x.conf", 0, bytes.Repeat([]byte("/dev/sda1 "), 100_000)); err != nil {
		t.Fatal(err)
	}
	rd, err := initrd.Parse(pack(files), initrd.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	p := initrdPlan{view: guest.NewView(tree.New()), in: fuzzInput(t)}
	override := map[string][]byte{}
	runtime.LockOSThread() // whose time is not that of others on this machine
	defer runtime.UnlockOSThread()
	before := threadTime(t)
	p.renames(inspect.Kernel{}, rd, override)
	if took := threadTime(t) - before; took > 20*time.Second || len(override) > 0 || len(p.concerns) != 1 {
		t.Errorf("%d files, concerns %v after %v", len(override), p.concerns, took)
	}
}

// threadTime is the CPU time that the calling thread has used.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
