package initrd

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"

	"github.com/google/go-cmp/cmp"
)

// needTools skips a test, or fails it when NEED_TOOLS is set, unless the
// programs are installed.
func needTools(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := proc.Look(name); err != nil {
			unmet(t, err.Error())
		}
	}
}

func unmet(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("NEED_TOOLS") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// hostKernel is the version of a kernel installed here, its modules and its
// image.
func hostKernel(t *testing.T) (version string, tree dirTree, image string) {
	t.Helper()
	images, err := filepath.Glob("/boot/vmlinuz-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		version := strings.TrimPrefix(image, "/boot/vmlinuz-")
		tree := dirTree(path.Join("/lib/modules", version))
		if _, err := tree.ReadFile("modules.dep", keptIndex); err == nil {
			return version, tree, image
		}
	}
	unmet(t, "no kernel with modules is installed")
	return "", "", ""
}

// bareInitrd has initramfs-tools make an initrd for a host kernel that holds only
// the modules named.
func bareInitrd(t *testing.T, version, compression string, modules ...string) []byte {
	t.Helper()
	if os.Getuid() != 0 {
		unmet(t, "mkinitramfs makes a complete initrd for root only")
	}
	conf := t.TempDir()
	for name, text := range map[string]string{
		"initramfs.conf":        "MODULES=list\nBUSYBOX=no\nCOMPRESS=" + compression + "\nRUNSIZE=10%\n",
		"update-initramfs.conf": "update_initramfs=no\n",
		"modules":               strings.Join(modules, "\n") + "\n",
	} {
		if err := os.WriteFile(path.Join(conf, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"hooks", "scripts", "conf.d"} {
		if err := os.Mkdir(path.Join(conf, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := path.Join(t.TempDir(), "initrd")
	if _, err := proc.Run(t.Context(), "mkinitramfs", "-d", conf, "-o", out, version); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dracutModules are what a root on a plain partition needs of dracut, by what
// runs in the initrd.
var dracutModules = map[string]string{
	"systemd": "systemd systemd-initrd dracut-systemd base fs-lib rootfs-block udev-rules kernel-modules usrmount",
	"shell":   "bash base fs-lib rootfs-block udev-rules kernel-modules usrmount",
}

// dracutInitrd has dracut make an initrd for a host kernel as one that serves a
// guest on VMware alone: of all drivers it has only those.
func dracutInitrd(t *testing.T, version, compression, modules string) []byte {
	t.Helper()
	if os.Getuid() != 0 {
		unmet(t, "dracut makes a complete initrd for root only")
	}
	dir := t.TempDir()
	out := path.Join(dir, "initrd")
	_, err := proc.Run(t.Context(), "dracut", "--quiet", "--conf", "/dev/null", "--confdir", dir, "--tmpdir", dir,
		"--kver", version, "--no-hostonly", "--no-hostonly-cmdline", "--compress", compression,
		"--modules", modules,
		"--drivers", "vmw_pvscsi vmxnet3 sd_mod sr_mod ahci ata_piix ext4 xfs", out)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var virtioDisk = []string{"virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "sd_mod"}

// TestModprobeFindsWhatDepmodWouldLetItFind asks modprobe about every module of
// an initrd with its supplement, with our indexes and with those that depmod
// makes of the same modules.
func TestModprobeFindsWhatDepmodWouldLetItFind(t *testing.T) {
	needTools(t, "modprobe", "depmod", "mkinitramfs")
	version, tree, _ := hostKernel(t)
	data := bareInitrd(t, version, "gzip", "ext4", "dm_crypt")
	i := parsed(t, data)
	s, err := i.Supplement(tree, version, virtioDisk, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Modules) == 0 {
		t.Fatal("the initrd lacks nothing")
	}
	after := parsed(t, joined(data, s.Bytes))
	ours, theirs := t.TempDir(), t.TempDir()
	for _, root := range []string{ours, theirs} {
		extract(t, joined(data, s.Bytes), root)
		if err := os.Symlink("usr/lib", path.Join(root, "lib")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := proc.Run(t.Context(), "depmod", "-a", "-b", theirs, version); err != nil {
		t.Fatal(err)
	}
	ask := slices.Concat(after.Modules(version), []string{
		"pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", "virtio:d00000002v00001AF4", "symbol:virtio_max_dma_size",
		"scsi:t-0x00", "fs-ext4", "crypto-crc32c",
	})
	c, err := readCatalogue(tree, version)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ask {
		got, want := showDepends(t, ours, version, name), showDepends(t, theirs, version, name)
		if diff := cmp.Diff(sortedLines(want), sortedLines(got)); diff != "" {
			t.Errorf("modprobe %s (-depmod's +ours):\n%s", name, diff)
		}
		inOrder(t, c, got)
	}
	if got := showDepends(t, ours, version, "virtio_blk"); !strings.HasSuffix(got, "virtio_blk.ko") {
		t.Errorf("modprobe virtio_blk loads %q", got)
	}
}

// sortedLines leaves out the order: modules that do not depend on each other are
// loaded in the order of the whole kernel's index by ours, in that of the few
// modules by depmod's.
func sortedLines(s string) []string {
	lines := strings.Split(s, "\n")
	for n := range lines {
		lines[n] = strings.TrimSpace(lines[n])
	}
	return slices.Sorted(slices.Values(lines))
}

// inOrder checks that what modprobe would insert comes behind what it needs.
func inOrder(t *testing.T, c *catalogue, shown string) {
	t.Helper()
	loaded := map[string]bool{}
	for line := range strings.SplitSeq(shown, "\n") {
		if !strings.HasPrefix(line, "insmod ") {
			continue
		}
		name := moduleName(strings.Fields(line)[1])
		for _, dep := range c.deps[name].deps {
			if !loaded[moduleName(dep)] {
				t.Errorf("%s is loaded before %s:\n%s", name, dep, shown)
			}
		}
		loaded[name] = true
	}
}

func showDepends(t *testing.T, root, version, name string) string {
	t.Helper()
	out, err := proc.Run(t.Context(), "modprobe", "-C", t.TempDir(), "-d", root, "-S", version, "--show-depends", name)
	if err != nil {
		return "not found"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(out), root, ""))
}

func TestTextIndexesAloneAreNotEnoughForModprobe(t *testing.T) {
	needTools(t, "modprobe")
	root := t.TempDir()
	data := vmwareInitrd()
	s, err := parsed(t, data).Supplement(guestModules(t), version, virtio, nil)
	if err != nil {
		t.Fatal(err)
	}
	extract(t, joined(data, s.Bytes), root)
	if err := os.Symlink("usr/lib", path.Join(root, "lib")); err != nil {
		t.Fatal(err)
	}
	if got := showDepends(t, root, version, "virtio_pci"); !strings.HasSuffix(got, "virtio_pci.ko") {
		t.Errorf("with tries: %q", got)
	}
	if err := os.Remove(path.Join(root, "lib/modules", version, "modules.dep.bin")); err != nil {
		t.Fatal(err)
	}
	if got := showDepends(t, root, version, "virtio_pci"); got != "not found" {
		t.Errorf("without modules.dep.bin: %q; the tries could be left out", got)
	}
}

func TestTheHostsOwnInitrdIsUnderstood(t *testing.T) {
	version, tree, _ := hostKernel(t)
	data, err := os.ReadFile("/boot/initrd.img-" + version)
	if err != nil {
		unmet(t, err.Error())
	}
	i := parsed(t, data)
	if i.Generator == "" || !slices.Equal(i.Kernels, []string{version}) || len(i.Modules(version)) == 0 {
		t.Errorf("generator %q, kernels %q, %d modules", i.Generator, i.Kernels, len(i.Modules(version)))
	}
	s, err := i.Supplement(tree, version, virtioDisk, nil)
	if err != nil {
		t.Fatal(err)
	}
	missing, absent, err := parsed(t, joined(data, s.Bytes)).Missing(tree, version, virtioDisk)
	if err != nil || len(missing)+len(absent) > 0 {
		t.Errorf("missing %q, absent %q, %v", missing, absent, err)
	}
}
