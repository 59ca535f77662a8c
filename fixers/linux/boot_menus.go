package linux

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// menuFiles are where distributions have a boot loader's menu, whether or not
// inspection took it for one.
var menuFiles = []string{
	"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub/custom.cfg", "/boot/grub2/custom.cfg",
	"/boot/grub/menu.lst", "/boot/grub/grub.conf", "/boot/refind_linux.conf",
}

// BootMenus are the files in which a guest's boot loaders have the command lines
// of its kernels: configurations, and entries of the boot loader specification,
// each once, links resolved. A file that distributions have may be absent.
// Unified images are not among them, nor is what LILO keeps in a form of its own.
func BootMenus(g *guest.View, f inspect.Facts) ([]string, error) {
	names, folders := slices.Clone(menuFiles), []string{"/boot/loader/entries"}
	for _, b := range f.Bootloaders {
		switch {
		case b.Config == "":
		case b.Kind == "systemd-boot", b.Kind == "grub2-bls":
			folders = append(folders, path.Join(path.Dir(b.Config), "entries"))
		case strings.HasPrefix(b.Kind, "grub"), strings.HasSuffix(b.Kind, "linux"), b.Kind == "refind": // extlinux, syslinux
			names = append(names, b.Config)
		}
	}
	vendors, err := listed(g, "/boot/efi/EFI", "")
	if err != nil {
		return nil, err
	}
	for _, dir := range vendors {
		names = append(names, dir+"/grub.cfg")
	}
	for _, folder := range folders {
		entries, err := listed(g, folder, ".conf")
		if err != nil {
			return nil, err
		}
		names = append(names, entries...)
	}
	var files []string
	for _, name := range names {
		at, err := g.Resolve(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(files, at) {
			files = append(files, at)
		}
	}
	return files, nil
}

// AddArguments puts arguments on the command line of every kernel that a boot
// loader offers: edit does so in the text of a menu; unified images that take
// addons get one with them.
func AddArguments(g *guest.View, in fixer.Input, arguments string, edit func(menu []byte) []byte) error {
	menus, err := BootMenus(g, in.Facts)
	if err != nil {
		return err
	}
	for _, menu := range menus {
		if err := g.Edit(menu, func(old []byte) ([]byte, error) { return edit(old), nil }); err != nil {
			return err
		}
	}
	for _, k := range in.Facts.Kernels {
		if !k.Unified || !takesAddons(in, k, addonCmdline) {
			continue
		}
		err := g.WriteBinary(addonPath(k, "arguments"), addon(".cmdline", []byte(arguments)), "an addon that appends to the command line: "+arguments)
		if err != nil {
			return err
		}
	}
	return nil
}

// listed are the names in a folder that end in suffix; none if it is absent.
func listed(g *guest.View, dir, suffix string) ([]string, error) {
	list, err := g.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, info := range list {
		if strings.HasSuffix(info.Name, suffix) {
			names = append(names, path.Join(dir, info.Name))
		}
	}
	return names, err
}
