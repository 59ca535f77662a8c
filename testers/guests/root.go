package guests

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// rootArgs unpack a base, add the guest's packages and files, and let the guest
// make its own initrds. The scratch folder gives the files and debconf's
// answers, and receives what is in each initrd.
func rootArgs(r Recipe, m mirror, debs, base, scratch string) []string {
	args := debootstrapArgs(m, debs)
	args = append(args,
		"--variant=custom", "--format=directory", "--skip=check/empty",
		fmt.Sprintf("--setup-hook=tar --xattrs --xattrs-include='*' -C \"$1\" -xf '%s'", base),
		"--include="+strings.Join(r.Packages, ","),
		fmt.Sprintf(`--customize-hook=tar -C "$1" -xf '%s/overlay.tar'`, scratch),
		fmt.Sprintf(`--customize-hook=chroot "$1" debconf-set-selections < '%s/debconf'`, scratch),
		`--customize-hook=chroot "$1" update-initramfs -c -k all`,
		fmt.Sprintf(`--customize-hook=for i in "$1"/boot/initrd.img-*; do n=${i##*/}; chroot "$1" lsinitramfs "/boot/$n" > '%s/initrd'/"$n"; done`, scratch),
		`--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap`,
		`--customize-hook=find "$1/var/log" -type f -delete; rm -f "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old; : > "$1/etc/machine-id"`,
	)
	return append(args, r.Release, filepath.Join(scratch, "root"), "-")
}

// root makes the tree of the guest's root file system.
func (b *build) root(ctx context.Context) error {
	files, err := overlay(b.files())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "overlay.tar"), files, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "debconf"), []byte(b.debconf()), 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(b.dir, "initrd"), 0o700); err != nil {
		return err
	}
	if err := b.debootstrap(ctx, rootArgs(b.Recipe, b.mirror, b.debs, b.baseTar, b.dir)); err != nil {
		return err
	}
	return b.checkInitrds()
}

func (b *build) tree() string { return filepath.Join(b.dir, "root") }

// checkInitrds refuses a guest that would boot on virtio as it is: every initrd
// holds VMware's drivers and none of virtio's, which each kernel has as modules.
func (b *build) checkInitrds() error {
	lists, err := filepath.Glob(filepath.Join(b.dir, "initrd", "initrd.img-*"))
	if err != nil {
		return err
	}
	if len(lists) == 0 {
		return fmt.Errorf("the guest made no initrd")
	}
	b.Initrds = map[string][]string{}
	for _, list := range lists {
		version := strings.TrimPrefix(filepath.Base(list), "initrd.img-")
		names, err := readLines(list)
		if err != nil {
			return err
		}
		b.Initrds[version] = modules(names)
		if err := b.checkKernel(version); err != nil {
			return fmt.Errorf("kernel %s: %w", version, err)
		}
	}
	return nil
}

func (b *build) checkKernel(version string) error {
	folder := filepath.Join(b.tree(), "usr/lib/modules", version)
	builtin, err := readLines(filepath.Join(folder, "modules.builtin"))
	if err != nil {
		return err
	}
	return checkModules(b.InitrdList, b.Initrds[version], modules(builtin), func(module string) (bool, error) {
		found, err := filepath.Glob(filepath.Join(folder, "kernel/drivers/*", module+".ko*"))
		return len(found) > 0, err
	})
}

// checkModules looks for the wanted modules in an initrd or the kernel itself,
// and for virtio's block device nowhere but among the kernel's modules.
func checkModules(wanted, initrd, builtin []string, onDisk func(string) (bool, error)) error {
	for _, module := range wanted {
		if !slices.Contains(initrd, module) && !slices.Contains(builtin, module) {
			return fmt.Errorf("its initrd has no %s", module)
		}
	}
	for _, module := range slices.Concat(initrd, builtin) {
		if strings.HasPrefix(module, "virtio_blk") || strings.HasPrefix(module, "virtio_pci") || strings.HasPrefix(module, "virtio_scsi") {
			return fmt.Errorf("%s is there before the root is", module)
		}
	}
	found, err := onDisk("virtio_blk")
	if err == nil && !found {
		return fmt.Errorf("it has no module virtio_blk")
	}
	return err
}

// modules are the names of the kernel modules among paths, sorted.
func modules(paths []string) []string {
	var names []string
	for _, p := range paths {
		name, extension, ok := strings.Cut(path.Base(p), ".ko")
		if ok && (extension == "" || extension[0] == '.') {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		lines = append(lines, scan.Text())
	}
	return lines, scan.Err()
}
