package linux

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

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

func TestPredictableNamesCarryVMwaresSlot(t *testing.T) {
	for name, want := range map[string]int{
		"ens192": 192, "ens33": 33, "enp11s0": 192, "enp3s0": 160, "enp19s0": 224, "enp27s0": 256, "enp2s1": 33,
		"enp4s0": 1184, "enp12s0": 1216, "eno16777984": 160, "eno16777736": 33, "eno16780032": 192, "eno33554960": 34,
	} {
		if got, ok := slotOfName(name); !ok || got != want {
			t.Errorf("slotOfName(%q) = %d, %v, want %d", name, got, ok, want)
		}
	}
	for _, name := range []string{"eth0", "lan0", "br0", "enx005056aa0001", "enp99s0", "ens"} {
		if got, ok := slotOfName(name); ok {
			t.Errorf("slotOfName(%q) = %d, want none", name, got)
		}
	}
}

func TestTheKernelCountsCardsInTheOrderOfVMwaresPCIBus(t *testing.T) {
	nics := []machine.NIC{{Slot: 1184}, {Slot: 160}, {Slot: 192}, {Slot: 33}, {Slot: 1216}, {Slot: 224}}
	if got, want := kernelOrder(nics), []int{3, 1, 0, 2, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("kernelOrder = %v, want %v", got, want)
	}
	nics[2].Slot = 0
	if got := kernelOrder(nics); !slices.IsSorted(got) {
		t.Errorf("kernelOrder with a slot that is not known = %v, want the record's", got)
	}
}

func TestAHostileInterfaceNameIsNotWritten(t *testing.T) {
	in := fixer.Input{Facts: inspect.Facts{OS: inspect.OS{Family: inspect.Linux, Systemd: 252}}}
	view := guest.NewView(tree.New())
	view.As("test", "test")
	for _, c := range []card{{name: "../../x", mac: "00:50:56:aa:00:01"}, {name: "ens192", mac: "00:50:56:aa:00:01\nName=x"}} {
		if err := pin(view, in, c); err == nil {
			t.Errorf("pin(%+v) wrote %v", c, view.Changes())
		}
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

func FuzzNetplan(f *testing.F) {
	f.Add([]byte("network:\n  ethernets:\n    ens192:\n      match: {macaddress: \"00:50:56:aa:00:01\"}\n      set-name: lan0\n"))
	f.Add([]byte("ethernets:\n \"eth0\":\n  dhcp4: true\n bridges: {br0: {interfaces: [eth0], macaddress: 00:50:56:aa:00:01}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, i := range netplanMentions(text, "x.yaml") {
			if i.Name == "" && i.MAC == "" || i.Name != "" && !hardwareName.MatchString(i.Name) || i.MAC != "" && !validMAC.MatchString(i.MAC) {
				t.Errorf("%q gives %+v", text, i)
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
		m := &matcher{in: in, cards: []card{{name: "lan0", mac: "00:50:56:aa:00:02"}}}
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
	text := strings.Repeat("root=/dev/sda1 ", 200_000)
	start := time.Now()
	now, _ := renameIn(text, "grub.cfg", naming(in, true))
	if took := time.Since(start); took > 20*time.Second || now != strings.Repeat("root=UUID=u1 ", 200_000) {
		t.Errorf("%d bytes after %v", len(now), took)
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
	const list, before, after = "/etc/lvm/devices/system.devices", "IDTYPE=devname IDNAME=/dev/sda1\n", "IDTYPE=sys_wwid IDNAME=x\n"
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
		if err := files.Mkdir(name[:i], 0o755); err != nil {
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
	start := time.Now()
	p.renames(inspect.Kernel{}, rd, override)
	if took := time.Since(start); took > 20*time.Second || len(override) > 0 || len(p.concerns) != 1 {
		t.Errorf("%d files, concerns %v after %v", len(override), p.concerns, took)
	}
}
