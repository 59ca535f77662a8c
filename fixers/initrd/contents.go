package initrd

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	keptText  = 1 << 20  // a configuration file is never larger
	keptIndex = 32 << 20 // modules.alias of a distribution kernel is 1.5 MiB
)

// configuration matches the files whose contents are kept, by resolved path.
var configuration = regexp.MustCompile(`^(conf/|cryptroot/|etc/|config$|buildconfig$|((usr/)?lib|var/lib)/dracut/hooks/|(usr/)?lib/modules-load\.d/)`)

// moduleIndex matches the text indexes of modules.
var moduleIndex = regexp.MustCompile(`^(usr/)?lib/modules/[^/]+/modules\.[a-z.]+$`)

// keepUpTo is the largest size at which a file's contents are kept; -1 is never.
func keepUpTo(path string) int64 {
	if moduleIndex.MatchString(path) && !strings.HasSuffix(path, ".bin") {
		return keptIndex
	}
	if configuration.MatchString(path) {
		return keptText
	}
	return -1
}

// early tells an entry of an early member by its name: what the kernel looks for
// there, and the marker of dracut and mkinitcpio.
func early(name string) bool {
	return name == "early_cpio" || strings.HasPrefix(name, "kernel/x86/microcode/") ||
		strings.HasPrefix(name, "kernel/firmware/acpi/")
}

// generators tells initrd generators by a file that only they put there.
//
// Source: initramfs-tools mkinitramfs; dracut.sh (build-parameter.txt since
// 038, dracut-lib.sh always); mkinitcpio install/base; SUSE's mkinitrd 2.x,
// scripts/setup-progs.sh; Alpine's mkinitfs, initramfs-init.in; booster,
// init/config.go.
var generators = []struct{ name, file string }{
	{"initramfs-tools", "conf/initramfs.conf"},
	{"initramfs-tools", "conf/arch.conf"},
	{"dracut", "lib/dracut/build-parameter.txt"},
	{"dracut", "usr/lib/dracut/build-parameter.txt"},
	{"dracut", "lib/dracut-lib.sh"},
	{"dracut", "usr/lib/dracut-lib.sh"},
	{"mkinitcpio", "init_functions"},
	{"mkinitcpio", "buildconfig"},
	{"suse-mkinitrd", "run_all.sh"},
	{"mkinitfs", "sbin/nlplug-findfs"},
	{"mkinitfs", "usr/sbin/nlplug-findfs"},
	{"booster", "etc/booster.init.yaml"},
}

// aliasLoaders are what loads a driver as soon as the kernel finds a device for
// it: udev's rule, and Alpine's little replacement for udev.
var aliasLoaders = []string{
	"etc/udev/rules.d/80-drivers.rules", "lib/udev/rules.d/80-drivers.rules", "usr/lib/udev/rules.d/80-drivers.rules",
	"sbin/nlplug-findfs", "usr/sbin/nlplug-findfs",
}

// LoadsByAlias tells whether a module inside is loaded without being named
// anywhere, by the alias of its device.
func (i *Initrd) LoadsByAlias() bool { return slices.ContainsFunc(aliasLoaders, i.Has) }

func (i *Initrd) generator() (name, evidence string) {
	for _, g := range generators {
		if i.Has(g.file) {
			return g.name, g.file
		}
	}
	return "", ""
}

// nested names images that an initrd mounts as its real root.
//
// Source: dracut modules.d/*squash*, init-squash.sh.
func (i *Initrd) nested() []string {
	images := []string{"squashfs-root.img", "squash-root.img", "erofs-root.img"}
	return slices.DeleteFunc(images, func(name string) bool { return !i.Has(name) })
}

// kernels lists the folders under lib/modules.
func (i *Initrd) kernels() []string {
	var versions []string
	for _, root := range moduleRoots {
		at, ok := i.tree.walk(root, true)
		if !ok || at.node == nil {
			continue
		}
		for name := range at.node.children {
			if version, ok := i.tree.walk(path.Join(root, name), true); ok && version.node != nil && version.node.is(typeDir) {
				versions = append(versions, name)
			}
		}
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}
