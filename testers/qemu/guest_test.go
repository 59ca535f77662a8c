package qemu

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/guests"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/watch"
)

// rootOffset is where the test guest's root file system begins, in bytes.
const rootOffset = 1 << 20

// machines skips a test that starts machines unless it was asked for.
func machines(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts machines: set NEED_VMS=1")
	}
	for _, name := range []string{"qemu-system-x86_64", "qemu-nbd", "qemu-storage-daemon", "qemu-img", "debugfs"} {
		if _, err := proc.Look(name); err != nil {
			t.Fatal(err)
		}
	}
}

// web01 is a Debian 12 with a static address, as VMware has it.
func web01(t *testing.T) (machine.Machine, testers.Expect, *disk.Source) {
	t.Helper()
	recipe, err := guests.Named("web01")
	if err != nil {
		t.Fatal(err)
	}
	g, err := guests.Build(t.Context(), recipe, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	source, err := disk.OpenSource(t.Context(), g.VMDK, "vmdk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	m := machine.Machine{
		Name: g.Name, Firmware: machine.BIOS, CPUs: g.CPUs, Memory: int64(g.MemoryMB) << 20, UUID: g.UUID,
		Disks: []machine.Disk{{Size: source.Size, Serial: machine.Serial(g.Name, 0)}},
		NICs:  []machine.NIC{{MAC: g.NICs[0].MAC}},
	}
	e := testers.Expect{
		Hostname: g.Name,
		Disks:    []testers.Disk{{Serial: m.Disks[0].Serial, Size: source.Size}},
		NICs:     []lan.Expect{{MAC: g.NICs[0].MAC, Static: []netip.Prefix{g.NICs[0].Address}, Gateway: g.NICs[0].Gateway}},
	}
	return m, e, source
}

// overlay is a throwaway overlay over source, changed by edit.
func overlay(t *testing.T, source *disk.Source, edit func(raw string)) watch.Disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "overlay.qcow2")
	if err := disk.CreateOverlay(t.Context(), path, source.Size); err != nil {
		t.Fatal(err)
	}
	storage, err := disk.OpenStorage(t.Context(), []disk.Layer{{Overlay: path, Backing: source.Export}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := storage.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if edit != nil {
		raw, err := storage.Raw(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		edit(raw)
	}
	export, err := storage.Export(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return watch.Disk{Socket: export.Socket, Export: export.Name}
}

// inject writes the probe into an ext4 root file system with debugfs, and turns
// the serial console on.
func inject(t *testing.T, key []byte) func(raw string) {
	return func(raw string) {
		t.Helper()
		files, err := probe.Files(key)
		if err != nil {
			t.Fatal(err)
		}
		const grub = "/boot/grub/grub.cfg"
		config := debugfs(t, raw, "cat "+grub)
		files = append(files, probe.File{Path: grub, Mode: 0o600, Data: probe.SerialConsole([]byte(config))})
		var commands []string
		for i, f := range files {
			switch f.Mode.Type() {
			case fs.ModeDir:
				commands = append(commands, "mkdir "+f.Path)
			case fs.ModeSymlink:
				commands = append(commands, "symlink "+f.Path+" "+f.LinkTo)
			default:
				data := filepath.Join(t.TempDir(), fmt.Sprint(i))
				if err := os.WriteFile(data, f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
				commands = append(commands, "rm "+f.Path, "write "+data+" "+f.Path,
					fmt.Sprintf("set_inode_field %s mode 0100%o", f.Path, f.Mode.Perm()))
			}
		}
		debugfs(t, raw, commands...)
	}
}

func debugfs(t *testing.T, raw string, commands ...string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := proc.Run(t.Context(), "debugfs", "-w", "-f", script, fmt.Sprintf("%s?offset=%d", raw, rootOffset))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(out), "\n") // the first line repeats the command
	return text
}

// evidenceDir is where the evidence goes: a folder to keep, if one is named.
func evidenceDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("EVIDENCE"); dir != "" {
		return filepath.Join(dir, t.Name())
	}
	return t.TempDir()
}

func progress(t *testing.T) func(string) {
	start := time.Now()
	return func(s string) { t.Logf("%5.1f s  %s", time.Since(start).Seconds(), s) }
}

func newKey(t *testing.T) []byte {
	t.Helper()
	key, err := probe.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// prove boots a guest with the probe, and without it unless that failed already.
func prove(t *testing.T, probed, clean watch.Spec) testers.Outcome {
	t.Helper()
	first, err := Boot(t.Context(), probed)
	if err != nil {
		t.Fatal(err)
	}
	var second testers.Session
	if first.End == testers.Done {
		if second, err = Boot(t.Context(), clean); err != nil {
			t.Fatal(err)
		}
	}
	o := judge(probed.Expect, first, second)
	for _, a := range o.Answers {
		t.Logf("%-28s %-5v %s", a.Name, a.OK, a.Evidence)
	}
	return o
}

// judge takes the file systems for clean: package pipeline lets them be checked.
func judge(e testers.Expect, probed, clean testers.Session) testers.Outcome {
	probed.Filesystems = []testers.Filesystem{{Device: "disk0p1", Type: "ext4", Clean: true}}
	return testers.Judge(e, probed, clean)
}

// TestAnEmptyDiskFailsWithTheFirmwaresOwnWords takes half a minute emulated. It
// reads a text screen, and starts both firmwares.
func TestAnEmptyDiskFailsWithTheFirmwaresOwnWords(t *testing.T) {
	machines(t)
	for fw, want := range map[machine.Firmware]string{machine.BIOS: "no-bootable-device on screen", machine.UEFI: "no-uefi-boot-option on serial"} {
		m := machine.Machine{Name: "empty", Firmware: fw, CPUs: 1, Memory: 512 << 20, NICs: []machine.NIC{{}},
			Disks: []machine.Disk{{Serial: "empty-disk0"}}}
		domain := machine.Target(m, machine.Caps{Firmware: fw, DiskBus: "virtio", NICModel: "virtio", RNG: true, Balloon: true})
		s, err := Boot(t.Context(), watch.Spec{Domain: domain, Disks: []watch.Disk{overlay(t, &disk.Source{Size: 1 << 30}, nil)}, Accel: "tcg", Scale: 0.2,
			Dir: filepath.Join(evidenceDir(t), string(fw)), Progress: progress(t)})
		if err != nil {
			t.Fatal(err)
		}
		if s.End != testers.Failed || !strings.HasPrefix(s.Detail, want) {
			t.Errorf("%s: end %q, %q, want %q; last words:\n%s", fw, s.End, s.Detail, want, s.LastWords)
		}
	}
}

// mortal is QEMU that is killed as soon as it runs.
type mortal struct{ hypervisor }

func (m mortal) Start(ctx context.Context, s watch.Spec, w watch.Wires) (watch.Machine, error) {
	machine, err := m.hypervisor.Start(ctx, s, w)
	if err != nil {
		return nil, err
	}
	return machine, machine.(*process).server.Kill()
}

// TestAMachineThatDiesIsNotProvedAndSaysSo takes a second.
func TestAMachineThatDiesIsNotProvedAndSaysSo(t *testing.T) {
	machines(t)
	m := machine.Machine{Name: "mortal", Firmware: machine.BIOS, CPUs: 1, Memory: 512 << 20, Disks: []machine.Disk{{Serial: "mortal-disk0"}}}
	domain := machine.Target(m, machine.Caps{Firmware: machine.BIOS, DiskBus: "virtio", NICModel: "virtio"})
	s, err := watch.Boot(t.Context(), watch.Spec{Domain: domain, Disks: []watch.Disk{overlay(t, &disk.Source{Size: 1 << 30}, nil)}, Accel: "tcg",
		Key: newKey(t), Dir: evidenceDir(t), Progress: progress(t)}, mortal{})
	if err != nil {
		t.Fatal(err)
	}
	o := judge(testers.Expect{}, s, testers.Session{})
	if s.End != testers.Died || o.Proved || !strings.Contains(o.Cause, "the machine ended: ") || !strings.Contains(o.Cause, "killed") {
		t.Errorf("end %q, %q; proved %v because of %q", s.End, s.Detail, o.Proved, o.Cause)
	}
}

// matrix skips a test whose like package e2e has in every run, by way of the
// whole pipeline.
func matrix(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("one of many machines: set NEED_VMS=matrix")
	}
}

// TestAGuestIsProvedOnControlHardware takes about 4 minutes emulated.
func TestAGuestIsProvedOnControlHardware(t *testing.T) {
	matrix(t)
	machines(t)
	m, e, source := web01(t)
	key, dir, say := newKey(t), evidenceDir(t), progress(t)
	domain := machine.Control(m)
	probed := watch.Spec{Domain: domain, Disks: []watch.Disk{overlay(t, source, inject(t, key))}, Accel: "tcg", Key: key, Expect: e,
		Dir: filepath.Join(dir, "probe"), Progress: say}
	clean := watch.Spec{Domain: domain, Disks: []watch.Disk{overlay(t, source, nil)}, Accel: "tcg", Expect: e,
		Dir: filepath.Join(dir, "clean"), Progress: say}
	if o := prove(t, probed, clean); !o.Proved {
		t.Errorf("not proved: %s\n%s", o.Cause, o.LastWords)
	}
}

// TestAGuestWithoutDriversIsNotProvedAndSaysWhy boots the same guest, which
// nobody has fixed, on virtio: its initrd knows only VMware's controller.
func TestAGuestWithoutDriversIsNotProvedAndSaysWhy(t *testing.T) {
	matrix(t)
	machines(t)
	m, e, source := web01(t)
	key, dir := newKey(t), evidenceDir(t)
	domain := machine.Target(m, machine.Caps{Firmware: machine.BIOS, DiskBus: "virtio", NICModel: "virtio"})
	probed := watch.Spec{Domain: domain, Disks: []watch.Disk{overlay(t, source, inject(t, key))}, Accel: "tcg", Key: key, Expect: e,
		Dir: filepath.Join(dir, "probe"), Progress: progress(t)}
	o := prove(t, probed, watch.Spec{})
	if o.Proved || !strings.Contains(o.LastWords, "(initramfs)") {
		t.Errorf("proved %v, cause %q, last words %q; want the initrd's shell", o.Proved, o.Cause, o.LastWords)
	}
}

// TestAGuestInEmergencyModeSaysWhy boots a guest that waits for a disk which is
// not there, as one does whose fstab names the old controller's path.
func TestAGuestInEmergencyModeSaysWhy(t *testing.T) {
	machines(t)
	m, e, source := web01(t)
	key, dir := newKey(t), evidenceDir(t)
	lost := func(raw string) {
		inject(t, key)(raw)
		fstab := filepath.Join(t.TempDir(), "fstab")
		text := debugfs(t, raw, "cat /etc/fstab") + "/dev/lost /srv ext4 x-systemd.device-timeout=5s 0 0\n"
		if err := os.WriteFile(fstab, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		debugfs(t, raw, "rm /etc/fstab", "write "+fstab+" /etc/fstab", "mkdir /srv")
	}
	probed := watch.Spec{Domain: machine.Control(m), Disks: []watch.Disk{overlay(t, source, lost)}, Accel: "tcg", Key: key, Expect: e,
		Dir: filepath.Join(dir, "probe"), Progress: progress(t)}
	o := prove(t, probed, watch.Spec{})
	if o.Proved || !strings.Contains(o.Cause, "waiting for device") || !strings.Contains(o.LastWords, "lost") {
		t.Errorf("proved %v, cause %q, last words:\n%s", o.Proved, o.Cause, o.LastWords)
	}
}
