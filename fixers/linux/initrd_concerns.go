package linux

import (
	"fmt"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
)

func withoutVirtio(k inspect.Kernel, absent []string) fixer.Concern {
	return fixer.Concern{
		Code: "linux/kernel-without-virtio",
		Text: fmt.Sprintf("kernel %s has no driver %s at all", k.Version, strings.Join(absent, ", ")),
		Try:  "install a kernel with virtio in the guest, or give the machine a SATA disk and an e1000e network card",
	}
}

func withoutModules(k inspect.Kernel) fixer.Concern {
	return fixer.Concern{
		Code: "linux/kernel-without-modules",
		Text: fmt.Sprintf("kernel %s has no folder of modules, so its initrd cannot be given virtio's drivers", k.Version),
		Try:  "install the kernel's package again in the guest, or remove the kernel from the boot menu",
	}
}

// notSupplemented keeps what is wrong with one kernel from the others.
func notSupplemented(k inspect.Kernel, err error) fixer.Concern {
	return fixer.Concern{
		Code: "linux/initrd-not-supplemented",
		Text: fmt.Sprintf("%s of kernel %s could not be given virtio's drivers: %v", k.Initrd, k.Version, err),
		Try:  "install the kernel's package again in the guest, or remove the kernel from the boot menu",
	}
}

func nested(k inspect.Kernel, rd *initrd.Initrd) fixer.Concern {
	return fixer.Concern{
		Code: "linux/initrd-nested",
		Text: fmt.Sprintf("%s of kernel %s keeps its files in %s, into which no driver can be put from outside", k.Initrd, k.Version, strings.Join(rd.Nested, ", ")),
		Try:  "make this initrd anew in the guest, with virtio's drivers and without dracut's squash module",
	}
}

func unifiedWithout(k inspect.Kernel, driver string) fixer.Concern {
	return fixer.Concern{
		Code: "linux/unified-image-without-virtio",
		Text: fmt.Sprintf("%s of kernel %s has its initrd inside, without %s; it takes that from outside with systemd-stub %d or later and without Secure Boot", k.Image, k.Version, driver, addonInitrd),
		Try:  "make this image anew in the guest, with virtio's drivers, and plan again",
	}
}

func fixedDrivers(k inspect.Kernel, f fixedInitrd) fixer.Concern {
	return fixer.Concern{
		Code: "linux/initrd-fixed-drivers",
		Text: fmt.Sprintf("%s of kernel %s loads the drivers that it was made for, and virtio's are not among them", k.Initrd, k.Version),
		Try:  f.try,
	}
}

func neverLoaded(k inspect.Kernel) fixer.Concern {
	return fixer.Concern{
		Code: "linux/initrd-unknown-generator",
		Text: fmt.Sprintf("%s of kernel %s was made by a program that is not known: it was given virtio's drivers, but nothing in it is known to load them", k.Initrd, k.Version),
		Try:  "make this initrd anew in the guest, with virtio's drivers, and plan again",
	}
}

func blockList(k inspect.Kernel) fixer.Concern {
	return fixer.Concern{
		Code: "linux/lilo-block-list",
		Text: fmt.Sprintf("%s of kernel %s grows, and LILO reads it by a list of blocks that ends where it ended", k.Initrd, k.Version),
		Try:  "put virtio's drivers into the initrd in the guest, run lilo there, and migrate again",
	}
}

func bakedIn(k inspect.Kernel, file, name string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/initrd-unstable-name",
		Text:  fmt.Sprintf("%s of kernel %s has %s in %s, a name that changes on KVM and was not replaced", k.Initrd, k.Version, name, file),
		Try:   "watch the first boot; make the initrd anew in the guest",
	}
}
