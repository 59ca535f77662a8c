package linux

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
)

// The names that distributions give to the programs, SUSE's last: a shim finds
// the others by the names that it was built with.
var (
	shims     = []string{"shimx64.efi", "shim.efi"}
	fallbacks = []string{"fbx64.efi", "fallback.efi"}
	grubs     = []string{"grubx64.efi", "grub.efi"}
	managers  = []string{"mmx64.efi", "MokManager.efi"}
	csvs      = []string{"BOOTX64.CSV", "BOOT.CSV"}
)

// loader is what a folder holds of a boot loader, each by its full name or "".
type loader struct {
	shim, fallback, grub, manager, csv, systemd, config, legacy string
}

func (e espPlan) look(dir string) (l loader, err error) {
	for _, f := range []struct {
		to    *string
		names []string
	}{
		{&l.shim, shims}, {&l.fallback, fallbacks}, {&l.grub, grubs}, {&l.manager, managers}, {&l.csv, csvs},
		{&l.systemd, []string{"systemd-bootx64.efi"}}, {&l.config, []string{"grub.cfg"}}, {&l.legacy, []string{"grub.conf"}},
	} {
		if *f.to, err = folded(e.view, dir, f.names...); err != nil {
			return l, err
		}
	}
	return l, nil
}

// vendors are the folders of the guest's own boot loaders, that of its
// distribution first.
func (e espPlan) vendors() ([]loader, error) {
	list, err := e.view.ReadDir(e.efi)
	if err != nil {
		return nil, err
	}
	own := e.in.Facts.OS.Distro
	if own == "rhel" {
		own = "redhat"
	}
	slices.SortStableFunc(list, func(a, b guest.Info) int {
		switch ours := strings.EqualFold(a.Name, own); {
		case ours == strings.EqualFold(b.Name, own):
			return 0
		case ours:
			return -1
		}
		return 1
	})
	var found []loader
	for _, info := range list {
		if !info.Mode.IsDir() || strings.EqualFold(info.Name, "BOOT") || strings.EqualFold(info.Name, "Microsoft") {
			continue
		}
		l, err := e.look(path.Join(e.efi, info.Name))
		if err != nil {
			return nil, err
		}
		found = append(found, l)
	}
	return found, nil
}

// copies are the files to put into EFI/BOOT, by their names there; none if a boot
// loader is of no use.
func (l loader) copies(there loader) map[string]string {
	switch {
	case l.shim != "" && l.grub != "" && l.csv != "" && (l.fallback != "" || there.fallback != ""):
		return map[string]string{removable: l.shim, path.Base(l.fallback): l.fallback}
	case l.shim != "" && l.grub != "":
		return map[string]string{removable: l.shim, path.Base(l.grub): l.grub, path.Base(l.manager): l.manager, path.Base(l.config): l.config}
	case l.grub != "":
		return map[string]string{removable: l.grub, path.Base(l.config): l.config, "BOOTX64.conf": l.legacy}
	case l.systemd != "":
		return map[string]string{removable: l.systemd}
	}
	return nil
}

// folded finds the first of names in a folder, whatever the letters' case, as FAT
// does; "" if there is none.
func folded(g *guest.View, dir string, names ...string) (string, error) {
	list, err := g.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, name := range names {
		for _, info := range list {
			if strings.EqualFold(info.Name, name) {
				return path.Join(dir, info.Name), nil
			}
		}
	}
	return "", nil
}
