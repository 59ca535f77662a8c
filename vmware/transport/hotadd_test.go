package transport

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/disk/loop/looptest"
)

const serial = "6000c29f0a1b2c3d4e5f60718293a4b5"

// lab is a folder in place of /sys and /dev, and a vSphere that attaches disks to it: an
// entry and a file come as a kernel would make them. That a kernel does so when VMware
// adds a disk it does not prove.
type lab struct {
	t        *testing.T
	kernel   kernel
	attached atomic.Int64 // that are there
	detach   func(ctx context.Context) error
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{t: t, kernel: kernel{filepath.Join(dir, "sys"), filepath.Join(dir, "dev"), 3 * time.Second, time.Millisecond, 20 * time.Millisecond}}
	l.put("block/sda/device/vpd_pg83", page83("6000c290000000000000000000000001"))
	l.put("block/loop0/size", "0")
	l.put("class/scsi_host/host0/scan", "")
	return l
}

// put makes a file of /sys.
func (l *lab) put(name, text string) {
	file := filepath.Join(l.kernel.sys, name)
	must(0, os.MkdirAll(filepath.Dir(file), 0o755))(l.t)
	must(0, os.WriteFile(file, []byte(text), 0o644))(l.t)
}

// scanned tells whether the SCSI hosts were asked to look.
func (l *lab) scanned() bool {
	text, err := os.ReadFile(filepath.Join(l.kernel.sys, "class/scsi_host/host0/scan"))
	return err == nil && string(text) == "- - -"
}

// disk is a disk that arrives some time after it is attached.
func (l *lab) disk(raw []byte, arrive func()) Disk {
	return Disk{Size: int64(len(raw)), Attach: func(context.Context) (Attached, error) {
		l.attached.Add(1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(10 * time.Millisecond)
			arrive()
		}()
		return Attached{Serial: serial, Detach: func(ctx context.Context) error {
			<-done
			l.attached.Add(-1)
			if l.detach != nil {
				return l.detach(ctx)
			}
			must(0, os.RemoveAll(filepath.Join(l.kernel.sys, "block/sdb")))(l.t)
			must(0, os.RemoveAll(filepath.Join(l.kernel.dev, "sdb")))(l.t)
			return ctx.Err()
		}}, nil
	}}
}

// sdb is a disk that arrives as sdb, with what the kernel tells of it.
func (l *lab) sdb(raw []byte, page, text string) Disk {
	return l.disk(raw, func() {
		l.put("block/sdb/"+page, text)
		l.device("sdb", raw)
	})
}

// device makes a file of /dev.
func (l *lab) device(name string, raw []byte) {
	file := filepath.Join(l.kernel.dev, name)
	sparse(l.t, file+".new", raw)
	must(0, os.Rename(file+".new", file))(l.t)
}

func (l *lab) transport() Transport { return Transport{Name: "hotadd", Open: l.kernel.open} }

func (l *lab) none() {
	l.t.Helper()
	if n := l.attached.Load(); n != 0 {
		l.t.Errorf("%d disks are still attached", n)
	}
}

// page83 is a device identification page as VMware's disks have it: a text of the vendor,
// the disk's name in binary, and the target port's.
func page83(naa string) string {
	name, err := hex.DecodeString(naa)
	if err != nil {
		panic(err)
	}
	text := "VMware  Virtual disk    "
	body := "\x02\x01\x00" + string(rune(len(text))) + text +
		"\x61\x93\x00\x08PORTNAME" +
		"\x01\x03\x00\x10" + string(name)
	return "\x00\x83\x00" + string(rune(len(body))) + body
}

func TestADiskIsFoundByItsSerialNumber(t *testing.T) {
	raw := content()
	for page, text := range map[string]string{
		"device/vpd_pg83": page83(serial),
		"device/vpd_pg80": "\x00\x80\x00\x20" + strings.ToUpper(serial),
		"device/wwid":     "naa." + serial + "\n",
		"device/serial":   "6000C29f-0a1b-2c3d-4e5f-60718293a4b5  ",
		"wwid":            "uuid.6000c29f-0a1b-2c3d-4e5f-60718293a4b5",
	} {
		l := newLab(t)
		r, err := l.kernel.open(t.Context(), Access{}, l.sdb(raw, page, text))
		if err != nil {
			t.Errorf("by %s: Open = %v", page, err)
			continue
		}
		readsAs(t, r, raw)
		if l.attached.Load() != 1 {
			t.Error("it is read, and not attached")
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		l.none()
	}
}

// The name of another's port, or a name that only begins like the disk's, is not its own.
func TestAnotherDiskIsNotTaken(t *testing.T) {
	for page, text := range map[string]string{
		"device/vpd_pg83":  "\x00\x83\x00\x14\x61\x13\x00\x10" + string(must(hex.DecodeString(serial))(t)),
		"device/wwid":      "naa." + serial + "00",
		"device/vpd_pg80":  "\x00\x80",
		"device/serial":    "",
		"device/vpd_pg83 ": "\x00\x83\x00\xff\x01\x03\x00\xff" + serial,
	} {
		l := newLab(t)
		l.kernel.wait = 100 * time.Millisecond
		_, err := l.kernel.open(t.Context(), Access{}, l.sdb(content(), strings.TrimSpace(page), text))
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "sdb arrived without that number within 100ms: set disk.EnableUUID to TRUE") {
			t.Errorf("Open with %s = %v", page, err)
		}
		l.none()
	}
}

func TestSCSIHostsAreScannedForADiskThatDoesNotArrive(t *testing.T) {
	l, raw := newLab(t), content()
	r, err := l.kernel.open(t.Context(), Access{}, l.disk(raw, func() {
		for !l.scanned() {
			time.Sleep(time.Millisecond)
		}
		l.put("block/sdb/device/wwid", "naa."+serial)
		l.device("sdb", raw)
	}))
	if err != nil {
		t.Fatal(err)
	}
	reads(t, r, raw)
	must(0, r.Close())(t)
	l.none()
}

// TestADiskOfBeforeIsNotTakenForTheNewOne: what is left of an earlier one reads nothing.
func TestADiskOfBeforeIsNotTakenForTheNewOne(t *testing.T) {
	l := newLab(t)
	l.put("block/sdz/device/wwid", "naa."+serial)
	old := must(l.kernel.disks())(t)
	l.put("block/sdb/device/wwid", "naa."+serial)
	now := must(l.kernel.disks())(t)
	if name, err := choose(old, now, serial); err != nil || name != "sdb" {
		t.Errorf("choose = %q, %v, want sdb", name, err)
	}
	if name, err := choose(now, now, serial); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "sdb, sdz have all") {
		t.Errorf("choose = %q, %v of two alike", name, err)
	}
	if name, err := choose(now, now, ""); err != nil || name != "" {
		t.Errorf("choose = %q, %v of no number", name, err)
	}
}

func TestAnAttachedDiskAlwaysGoes(t *testing.T) {
	raw, ours := content(), errors.New("enough")
	for name, c := range map[string]struct {
		set  func(l *lab, d *Disk, cancel context.CancelCauseFunc)
		want string
	}{
		"it has another size": {func(_ *lab, d *Disk, _ context.CancelCauseFunc) { d.Size++ }, "sdb has 6330880 bytes, and the inventory's disk 6330881"},
		"it does not arrive":  {func(l *lab, _ *Disk, _ context.CancelCauseFunc) { l.kernel.wait = time.Millisecond }, "no disk arrived within 1ms: set disk.EnableUUID"},
		"nobody waits any more": {func(l *lab, d *Disk, cancel context.CancelCauseFunc) {
			attach := d.Attach
			d.Attach = func(ctx context.Context) (Attached, error) {
				defer cancel(ours)
				return attach(ctx)
			}
		}, "enough"},
	} {
		l := newLab(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		d := l.sdb(raw, "device/wwid", serial)
		c.set(l, &d, cancel)
		if _, err := l.kernel.open(ctx, Access{}, d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Open = %v, want %q", name, err, c.want)
		}
		cancel(nil)
		l.none()
	}
}

func TestClosingTellsThatADiskStays(t *testing.T) {
	l, raw := newLab(t), content()
	ctx, cancel := context.WithCancel(t.Context())
	r := must(l.kernel.open(ctx, Access{}, l.sdb(raw, "device/wwid", serial)))(t)
	stays := errors.New("the host is in maintenance")
	l.detach = func(ctx context.Context) error {
		if ctx.Err() != nil {
			t.Error("it is taken away under a context that has ended")
		}
		if text, err := os.ReadFile(filepath.Join(l.kernel.sys, "block/sdb/device/delete")); err != nil || string(text) != "1" {
			t.Errorf("the kernel did not forget it before: %q, %v", text, err)
		}
		return stays
	}
	l.put("block/sdb/device/delete", "")
	cancel()
	if err := r.Close(); !errors.Is(err, stays) {
		t.Errorf("Close = %v, want %v", err, stays)
	}
}

func TestHotAddNeedsAMachineOfThisVSphere(t *testing.T) {
	if _, err := hotadd.Open(t.Context(), Access{}, Disk{}); !errors.Is(err, ErrUnusable) {
		t.Errorf("Open = %v", err)
	}
}

func TestWhatWasNeverWrittenIsKnownOfAHotAddedDisk(t *testing.T) {
	l, raw := newLab(t), content()
	d := l.sdb(raw, "device/wwid", serial)
	d.Allocated = func(_ context.Context, off, n int64) ([]disk.Allocation, error) {
		return []disk.Allocation{{Offset: off, Length: n, Zero: off == 3<<20 && n == 1<<20}}, nil
	}
	r := must(l.kernel.open(t.Context(), Access{}, d))(t)
	defer r.Close()
	if list := must(r.Extents(t.Context(), 3<<20, 1<<20))(t); len(list) != 1 || !list[0].Zero {
		t.Errorf("Extents = %v", list)
	}
}

// TestABlockDeviceIsReadAndNotShared: a loop device stands for the disk.
func TestABlockDeviceIsReadAndNotShared(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv("NEED_TOOLS") == "" {
		t.Skip("makes block devices as root: set NEED_TOOLS=1")
	}
	l, raw := newLab(t), content()
	file := filepath.Join(t.TempDir(), "disk")
	sparse(t, file, raw)
	readOnly := must(os.Open(file))(t)
	defer readOnly.Close()
	device := must(loop.Attach(readOnly, 0, 0))(t)
	defer looptest.Detach(t, device)
	l.kernel.dev = "/dev"
	d := l.disk(raw, func() { l.put("block/"+filepath.Base(device.Node())+"/device/vpd_pg83", page83(serial)) })
	r := must(l.kernel.open(t.Context(), Access{}, d))(t)
	readsAs(t, r, raw)
	if _, err := l.kernel.open(t.Context(), Access{}, d); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "something on this appliance uses it") {
		t.Errorf("Open of what is in use = %v", err)
	}
	must(0, r.Close())(t)
	l.none()
}

func TestHotAddConforms(t *testing.T) {
	conform(t, func(t *testing.T) subject {
		l, raw := newLab(t), content()
		return subject{l.transport(), Access{}, l.sdb(raw, "device/vpd_pg83", page83(serial)), raw, nil}
	})
}
