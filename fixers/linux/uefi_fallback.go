package linux

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
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
		unread := slices.ContainsFunc(in.Facts.Problems, func(p inspect.Found) bool { return p.Source == m.Source })
		if m.Device == "" || !in.Facts.IsESP(m.Device) || unread { // what is in its folder then is of another file system
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
