package initrd

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/proc"
)

// variant is an initrd to be made, and how its supplement is compressed.
type variant struct{ compression, like string }

func needVMs(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts virtual machines: set NEED_VMS=1")
	}
}

// oneOfMany skips all variants but the chosen ones, unless all are asked for.
func oneOfMany(t *testing.T, chosen bool) {
	t.Helper()
	if !chosen && os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("one of many machines: set NEED_VMS=matrix")
	}
}

// TestTheKernelLoadsVirtioFromASupplement boots a real kernel on a virtio disk
// with an initrd of initramfs-tools that lacks virtio: without a supplement the
// disk never shows; with one, in every compression, it does.
func TestTheKernelLoadsVirtioFromASupplement(t *testing.T) {
	needVMs(t)
	needTools(t, "qemu-system-x86_64", "mkinitramfs")
	version, tree, kernel := hostKernel(t)
	disk := path.Join(t.TempDir(), "empty")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const args = "root=/dev/vda rootfstype=ext4 rootdelay=2 panic=1"
	for _, x := range []variant{
		{"gzip", "gzip"}, {"xz", "xz"}, {"lz4", "lz4"}, {"zstd", "zstd"}, {"lzop", "none"}, {"bzip2", "none"}, {"lzma", "none"},
	} {
		t.Run(x.compression, func(t *testing.T) {
			oneOfMany(t, x.compression == "gzip") // dracut's has zstd
			data := bareInitrd(t, version, x.compression, "ext4")
			s := supplemented(t, data, tree, version, x.like)
			with := boot(t, kernel, joined(data, s.Bytes), disk, args)
			if !strings.Contains(with, "[vda] ") || strings.Contains(with, "unpacking failed") {
				t.Errorf("with the supplement the disk did not show:\n%s", with)
			}
			if x.compression != "gzip" {
				return
			}
			if without := boot(t, kernel, data, disk, args); strings.Contains(without, "[vda] ") || !strings.Contains(without, "/dev/vda does not exist") {
				t.Errorf("without the supplement:\n%s", without)
			}
		})
	}
}

// TestDracutReachesItsRootWithASupplement boots a real kernel with an initrd of
// dracut that has VMware's drivers and no virtio, systemd and udev inside, and a
// root on a virtio disk whose init tells a secret: with the supplement it is
// told, without it the initrd gives up.
func TestDracutReachesItsRootWithASupplement(t *testing.T) {
	needVMs(t)
	needTools(t, "qemu-system-x86_64", "dracut", "mkfs.xfs", "mke2fs")
	version, tree, kernel := hostKernel(t)
	for _, x := range []struct {
		variant
		init   string // what runs in the initrd
		root   func(*testing.T, string) string
		chosen bool
	}{
		{variant{"zstd", "zstd"}, "systemd", xfsRoot, true},
		{variant{"gzip", "gzip"}, "systemd", xfsRoot, false},
		{variant{"xz", "xz"}, "systemd", ext4Root, false},
		{variant{"lz4", "lz4"}, "systemd", ext4Root, false},
		{variant{"cat", "none"}, "systemd", ext4Root, false},
		{variant{"gzip", "gzip"}, "shell", xfsRoot, false},
	} {
		t.Run(x.compression+" with "+x.init, func(t *testing.T) {
			oneOfMany(t, x.chosen)
			data := dracutInitrd(t, version, x.compression, dracutModules[x.init])
			s := supplemented(t, data, tree, version, x.like)
			secret := rand.Text()
			disk := x.root(t, secret)
			if with := boot(t, kernel, joined(data, s.Bytes), disk, dracutArgs); !strings.Contains(with, secret) || strings.Contains(with, "unpacking failed") {
				t.Errorf("with the supplement the root was not reached:\n%s", with)
			}
			if !x.chosen {
				return
			}
			if without := boot(t, kernel, data, disk, dracutArgs); strings.Contains(without, secret) || !strings.Contains(without, "Timed out waiting for device") {
				t.Errorf("without the supplement:\n%s", without)
			}
		})
	}
}

// dracutArgs find the root that the tests make; an initrd that does not find it
// gives up soon and powers off (dracut.cmdline(7)).
const dracutArgs = "root=UUID=" + rootUUID + " ro rd.retry=8 rd.timeout=20 rd.shell=0 rd.emergency=poweroff panic=1"

const rootUUID = "5d1c2a7e-84b3-4f60-9c1d-2e7b90a4c6f3"

func supplemented(t *testing.T, data []byte, tree ModuleTree, version, like string) *Supplement {
	t.Helper()
	s, err := parsed(t, data).Supplement(tree, version, virtioDisk, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Compression != like {
		t.Fatalf("the supplement is %s, want %s", s.Compression, like)
	}
	t.Logf("initrd of %d bytes, supplement of %d: %s", len(data), len(s.Bytes), strings.Join(s.Modules, " "))
	return s
}

// rootTree is a root whose init tells a secret and powers off: the shell that
// initramfs-tools brings needs one library only.
func rootTree(t *testing.T, secret string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "sbin", "lib", "etc", "proc", "sys", "dev", "run"} {
		if err := os.Mkdir(path.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	libraries, err := filepath.Glob("/lib/klibc-*.so")
	if err != nil || len(libraries) != 1 {
		unmet(t, "klibc is not installed")
	}
	copyFile(t, libraries[0], path.Join(root, "lib", path.Base(libraries[0])))
	copyFile(t, "/usr/lib/klibc/bin/sh", path.Join(root, "bin/sh"))
	copyFile(t, "/usr/lib/klibc/bin/poweroff", path.Join(root, "bin/poweroff"))
	for name, text := range map[string]string{
		"sbin/init":      "#!/bin/sh\necho " + secret + " >/dev/console\nexec /bin/poweroff -f\n",
		"etc/os-release": "ID=test\n", // systemd switches to no root without it
	} {
		if err := os.WriteFile(path.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		unmet(t, err.Error())
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func ext4Root(t *testing.T, secret string) string {
	t.Helper()
	disk := path.Join(t.TempDir(), "root")
	_, err := proc.Run(t.Context(), "mke2fs", "-q", "-t", "ext4", "-U", rootUUID, "-d", rootTree(t, secret), disk, "32M")
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// xfsRoot lets mkfs.xfs populate its file system by a prototype file, which
// takes no mount (mkfs.xfs(8), -p).
func xfsRoot(t *testing.T, secret string) string {
	t.Helper()
	root, dir := rootTree(t, secret), t.TempDir()
	prototype := "/dev/null\n0 0\nd--755 0 0\n" + prototypeOf(t, root) + "$\n"
	if err := os.WriteFile(path.Join(dir, "prototype"), []byte(prototype), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := path.Join(dir, "root")
	_, err := proc.Run(t.Context(), "mkfs.xfs", "-q", "-m", "uuid="+rootUUID, "-p", path.Join(dir, "prototype"), "-d", "file,size=320m,name="+disk)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func prototypeOf(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range list {
		full := path.Join(dir, f.Name())
		if f.IsDir() {
			text.WriteString(f.Name() + " d--755 0 0\n" + prototypeOf(t, full) + "$\n")
			continue
		}
		text.WriteString(f.Name() + " ---755 0 0 " + full + "\n")
	}
	return text.String()
}

// boot runs a machine with a virtio disk until it powers off or reboots, and
// returns its serial log.
func boot(t *testing.T, kernel string, initrd []byte, disk, args string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(path.Join(dir, "initrd"), initrd, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	choice, err := accel.Probe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = proc.Run(ctx, "qemu-system-x86_64", append(choice.QEMU(), "-machine", "q35", "-m", "512",
		"-nodefaults", "-display", "none", "-serial", "file:"+path.Join(dir, "serial"), "-no-reboot",
		"-kernel", kernel, "-initrd", path.Join(dir, "initrd"),
		// no_timer_check: on a busy host an emulated timer fails the kernel's test.
		"-append", "console=ttyS0 no_timer_check "+args,
		"-blockdev", "driver=file,node-name=file,filename="+disk,
		"-blockdev", "driver=raw,node-name=disk,file=file", "-device", "virtio-blk-pci,drive=disk")...)
	log, readErr := os.ReadFile(path.Join(dir, "serial"))
	if err := errors.Join(err, readErr); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return string(log)
}
