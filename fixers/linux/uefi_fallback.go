package linux

import (
	"bytes"
	"cmp"
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// uefiFallback puts a boot loader where firmware looks that knows no boot entry:
// entries are in the source's NVRAM, which stays behind. What is copied are the
// guest's own programs, by what is found: best shim with its helper fallback, which
// makes the entries anew; else shim with the GRUB that it starts; else GRUB, or
// systemd-boot. Nothing that is there is replaced.
//
// Source: UEFI specification 2.10, 3.5.1.1, "Removable Media Boot Behavior"; shim
// README.fallback, shim.c, DEFAULT_LOADER; virt-v2v convert_linux.ml,
// install_linux_uefi_fallback, which knows three distributions by their versions.
var uefiFallback = fixer.Fixer{
	Name:    "linux/uefi-fallback",
	Why:     "boot entries stay behind with the source's NVRAM, and KVM's firmware then starts EFI/BOOT/BOOTX64.EFI, which is not there",
	Vital:   true,
	Applies: func(in fixer.Input) bool { return onLinux(in) && in.Machine.Firmware == machine.UEFI },
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		folders, err := systemPartitions(g, in)
		if err != nil {
			return nil, err
		}
		if len(folders) == 0 {
			return []fixer.Concern{unreadESP()}, nil
		}
		var concerns []fixer.Concern
		for _, efi := range folders {
			e := espPlan{view: g, in: in, efi: efi}
			more, err := e.plan()
			if err != nil {
				return concerns, err
			}
			concerns = append(concerns, more...)
		}
		return concerns, nil
	},
}

// maxProgram bounds an EFI program: GRUB with all its modules has 4 MiB.
const maxProgram = 8 << 20

// removable is what firmware starts from a disk of which it knows no boot entry.
const removable = "BOOTX64.EFI"

// The names that distributions give to the programs, SUSE's last: a shim finds
// the others by the names that it was built with.
var (
	shims     = []string{"shimx64.efi", "shim.efi"}
	fallbacks = []string{"fbx64.efi", "fallback.efi"}
	grubs     = []string{"grubx64.efi", "grub.efi"}
	managers  = []string{"mmx64.efi", "MokManager.efi"}
	csvs      = []string{"BOOTX64.CSV", "BOOT.CSV"}
)

// espPlan is the work on one EFI system partition.
type espPlan struct {
	view *guest.View
	in   fixer.Input
	efi  string // its folder EFI
}

// systemPartitions are the folders EFI of the EFI system partitions that the guest
// mounts.
func systemPartitions(g *guest.View, in fixer.Input) ([]string, error) {
	var folders []string
	for _, m := range in.Facts.Mounts {
		if m.Device == "" || !in.Facts.IsESP(m.Device) {
			continue
		}
		efi, err := folded(g, m.Path, "EFI")
		if err != nil {
			return nil, err
		}
		if efi != "" {
			folders = append(folders, efi)
		}
	}
	return folders, nil
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
		return -cmp.Compare(btoi(strings.EqualFold(a.Name, own)), btoi(strings.EqualFold(b.Name, own)))
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

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
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

func (e espPlan) plan() ([]fixer.Concern, error) {
	dir, err := folded(e.view, e.efi, "BOOT")
	if err != nil {
		return nil, err
	}
	dir = cmp.Or(dir, path.Join(e.efi, "BOOT"))
	there, err := e.look(dir)
	if err != nil {
		return nil, err
	}
	vendors, err := e.vendors()
	if err != nil {
		return nil, err
	}
	present, err := folded(e.view, dir, removable)
	if err != nil {
		return nil, err
	}
	if present != "" {
		complete, err := e.complete(present, there, vendors)
		if err != nil {
			return nil, err
		}
		if complete {
			return e.trusted(present)
		}
	}
	for _, l := range vendors {
		copies := l.copies(there)
		if copies == nil {
			continue
		}
		if present != "" && l.shim == "" {
			continue // what is there is a shim, and needs what a shim starts
		}
		if err := e.copyAll(copies, dir); err != nil {
			return nil, err
		}
		return e.trusted(cmp.Or(present, copies[removable]))
	}
	return []fixer.Concern{withoutLoader(e.efi)}, nil
}

// complete tells whether what firmware starts goes on from there: a shim needs a
// GRUB beside it, or fallback and a list of the entries to be made.
func (e espPlan) complete(present string, there loader, vendors []loader) (bool, error) {
	data, err := e.view.ReadFile(present, maxProgram)
	if errors.Is(err, guest.ErrTooBig) { // no shim is so large
		return true, nil
	}
	if err != nil || !bytes.Contains(data, []byte("UEFI SHIM")) {
		return err == nil, err
	}
	listed := slices.ContainsFunc(vendors, func(l loader) bool { return l.csv != "" })
	return there.grub != "" || there.fallback != "" && listed, nil
}

// copyAll puts copies into a folder, but for those that are there.
func (e espPlan) copyAll(copies map[string]string, dir string) error {
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		from := copies[name]
		there, err := folded(e.view, dir, name)
		if err != nil {
			return err
		}
		if from == "" || there != "" {
			continue
		}
		data, err := e.view.ReadFile(from, maxProgram)
		if err != nil {
			return err
		}
		if strings.EqualFold(name, "grub.cfg") && !bytes.Contains(data, []byte("configfile")) {
			continue // the menu itself: a copy would grow old
		}
		if err := e.view.Write(path.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}

// trusted judges the program that firmware will start, where it starts only what
// is signed. KVM's firmware knows Microsoft's keys, which sign shims.
func (e espPlan) trusted(program string) ([]fixer.Concern, error) {
	if !e.in.Machine.SecureBoot {
		return nil, nil
	}
	data, err := e.view.ReadFile(program, maxProgram)
	if err != nil {
		return nil, err
	}
	switch {
	case !signed(data):
		return []fixer.Concern{unsigned(program)}, nil
	case !bytes.Contains(data, []byte("UEFI SHIM")):
		return []fixer.Concern{otherKey(program)}, nil
	}
	return nil, nil
}

// signed tells whether an EFI program carries a signature.
//
// Source: Microsoft PE format, "The Attribute Certificate Table".
func signed(program []byte) bool {
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return false
	}
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	return ok && header.NumberOfRvaAndSizes > pe.IMAGE_DIRECTORY_ENTRY_SECURITY && header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size > 0
}

func unreadESP() fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/uefi-unread",
		Text:  "no EFI system partition of this guest could be read, so whether KVM's firmware finds its boot loader is not known",
		Try:   "mount it at /boot/efi by the guest's fstab, and read the guest with libguestfs",
	}
}

func withoutLoader(efi string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Blocker,
		Code:  "linux/uefi-no-loader",
		Text:  fmt.Sprintf("%s holds no boot loader that KVM's firmware would start without the boot entries of the source", efi),
		Try:   "install it for removable media in the guest (grub-install --removable, or bootctl install), and migrate again",
	}
}

func unsigned(program string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Blocker,
		Code:  "linux/uefi-secure-boot",
		Text:  fmt.Sprintf("%s is not signed, and the machine has Secure Boot on: KVM's firmware will not start it", program),
		Try:   "install shim's signed package in the guest, or turn Secure Boot off in the VM's settings, and migrate again",
	}
}

func otherKey(program string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/uefi-secure-boot",
		Text:  fmt.Sprintf("%s is signed and no shim: KVM's firmware starts it only if Microsoft signed it, or with its key enrolled", program),
		Try:   "enrol the key in the domain's NVRAM, install shim's signed package in the guest, or turn Secure Boot off",
	}
}
