package initrd

import (
	"context"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/proc"
)

// TestTheKernelLoadsVirtioFromASupplement boots a real kernel on a virtio disk
// with an initrd of initramfs-tools that lacks virtio: without a supplement the
// disk never shows; with one, in every compression, it does.
func TestTheKernelLoadsVirtioFromASupplement(t *testing.T) {
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts virtual machines: set NEED_VMS=1")
	}
	needTools(t, "qemu-system-x86_64", "mkinitramfs")
	version, tree, kernel := hostKernel(t)
	for _, x := range []struct{ generator, like string }{
		{"gzip", "gzip"}, {"xz", "xz"}, {"lz4", "lz4"}, {"zstd", "zstd"}, {"lzop", "none"}, {"bzip2", "none"}, {"lzma", "none"},
	} {
		t.Run(x.generator, func(t *testing.T) {
			if x.generator != "gzip" && x.generator != "zstd" && os.Getenv("NEED_VMS") != "matrix" {
				t.Skip("one of many machines: set NEED_VMS=matrix")
			}
			data := bareInitrd(t, version, x.generator, "ext4")
			s, err := parsed(t, data).Supplement(tree, version, virtioDisk, nil)
			if err != nil {
				t.Fatal(err)
			}
			if s.Compression != x.like {
				t.Fatalf("the supplement is %s, want %s", s.Compression, x.like)
			}
			t.Logf("initrd of %d bytes, supplement of %d: %s", len(data), len(s.Bytes), strings.Join(s.Modules, " "))
			with := boot(t, kernel, joined(data, s.Bytes))
			if !strings.Contains(with, "[vda] ") || strings.Contains(with, "unpacking failed") {
				t.Errorf("with the supplement the disk did not show:\n%s", with)
			}
			if x.generator != "gzip" {
				return
			}
			if without := boot(t, kernel, data); strings.Contains(without, "[vda] ") || !strings.Contains(without, "/dev/vda does not exist") {
				t.Errorf("without the supplement:\n%s", without)
			}
		})
	}
}

// boot runs a machine with an empty virtio disk as its root until the initrd
// gives up and reboots, and returns its serial log.
func boot(t *testing.T, kernel string, initrd []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(path.Join(dir, "initrd"), initrd, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path.Join(dir, "disk"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	choice, err := accel.Probe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	log, err := proc.Run(ctx, "qemu-system-x86_64", append(choice.QEMU(), "-machine", "q35", "-m", "512",
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", kernel, "-initrd", path.Join(dir, "initrd"),
		// no_timer_check: on a busy host an emulated timer fails the kernel's test.
		"-append", "console=ttyS0 no_timer_check root=/dev/vda rootfstype=ext4 rootdelay=2 panic=1",
		"-blockdev", "driver=file,node-name=file,filename="+path.Join(dir, "disk"),
		"-blockdev", "driver=raw,node-name=disk,file=file", "-device", "virtio-blk-pci,drive=disk")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return string(log)
}
