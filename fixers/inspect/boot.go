package inspect

import (
	"path"
	"slices"
	"strings"
)

// loaderFiles are the configurations of boot loaders in the guest's own
// folders, those that come first being the likelier ones to be in use.
var loaderFiles = []struct{ kind, file string }{
	{"grub2", "/boot/grub2/grub.cfg"},
	{"grub2", "/boot/grub/grub.cfg"},
	{"grub1", "/boot/grub/menu.lst"},
	{"grub1", "/boot/grub/grub.conf"},
	{"extlinux", "/boot/extlinux/extlinux.conf"},
	{"extlinux", "/boot/extlinux.conf"},
	{"extlinux", "/extlinux.conf"},
	{"syslinux", "/boot/syslinux/syslinux.cfg"},
	{"syslinux", "/boot/syslinux.cfg"},
	{"syslinux", "/syslinux.cfg"},
	{"lilo", "/etc/lilo.conf"},
}

// bootloaders finds every boot loader that is installed. One configuration that
// has two names is one.
func (t *files) bootloaders(esps []string) []Bootloader {
	var all []Bootloader
	add := func(kind, config string) {
		b := Bootloader{Kind: kind, Config: t.resolve(config), Source: config}
		if !slices.ContainsFunc(all, func(a Bootloader) bool { return a.Config == b.Config }) {
			all = append(all, b)
		}
	}
	for _, l := range loaderFiles {
		if t.exists(l.file) {
			add(l.kind, l.file)
		}
	}
	for _, esp := range esps {
		for _, l := range t.efiConfigs(esp) {
			add(l.Kind, l.Config)
		}
	}
	return all
}

// efiConfigs finds the boot loaders that are configured on an EFI system
// partition.
func (t *files) efiConfigs(esp string) []Bootloader {
	var found []Bootloader
	add := func(kind, config string) {
		if config != "" {
			found = append(found, Bootloader{Kind: kind, Config: config})
		}
	}
	add(t.typeOne(esp))
	add("syslinux", t.fold(esp, "syslinux.cfg"))
	for _, dir := range t.efiVendors(esp) {
		add("grub2", t.fold(dir, "grub.cfg"))
		add("grub1", t.fold(dir, "grub.conf"))
		add("refind", t.fold(dir, "refind.conf"))
		add("syslinux", t.fold(dir, "syslinux.cfg"))
		if strings.EqualFold(path.Base(dir), "Linux") {
			for _, image := range t.efiFiles(dir) {
				add("uki", image)
			}
		}
	}
	return found
}

// espFolders are the folders at which an EFI system partition is mounted, or
// where distributions mount it when fstab does not say. /boot holds a folder
// like that of an EFI system partition when one is mounted at /boot/efi.
func (t *files) espFolders(f Facts) []string {
	var dirs []string
	for _, m := range f.Mounts {
		if f.IsESP(m.Device) && m.Path != "none" {
			dirs = append(dirs, m.Path)
		}
	}
	dirs = append(dirs, "/boot/efi", "/efi", "/boot")
	var held []string
	for _, d := range dirs {
		if slices.Contains(held, d) || !t.exists(d) {
			continue
		}
		if efi := t.fold(d, "EFI"); efi != "" && !f.mountsAt(efi) {
			held = append(held, d)
		}
	}
	return held
}

// efiVendors are the folders under EFI.
func (t *files) efiVendors(esp string) []string {
	efi := t.fold(esp, "EFI")
	if efi == "" {
		return nil
	}
	list, err := t.ReadDir(efi)
	if !t.note(efi, err) {
		return nil
	}
	var dirs []string
	for _, info := range list[:min(len(list), maxFiles)] {
		if info.Mode.IsDir() && safeName(info.Name) {
			dirs = append(dirs, path.Join(efi, info.Name))
		}
	}
	return dirs
}

// efiFiles are the EFI programs in a folder.
func (t *files) efiFiles(dir string) []string {
	list, err := t.ReadDir(dir)
	if !t.note(dir, err) {
		return nil
	}
	var files []string
	for _, info := range list {
		if strings.HasSuffix(strings.ToLower(info.Name), ".efi") && safeName(info.Name) && len(files) < maxFiles {
			files = append(files, path.Join(dir, info.Name))
		}
	}
	return files
}

// efiPrograms are the EFI programs in the folders under EFI, and in
// EFI/Microsoft/Boot.
func (t *files) efiPrograms(esp string) []string {
	var programs []string
	for _, dir := range t.efiVendors(esp) {
		programs = append(programs, t.efiFiles(dir)...)
		if boot := t.fold(dir, "Boot"); boot != "" {
			programs = append(programs, t.efiFiles(boot)...)
		}
	}
	return programs
}
