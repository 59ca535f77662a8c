package linux

import (
	"path"
	"slices"

	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
)

// fixedInitrd is a kind of initrd that loads the drivers of a list that its
// generator made, and from a folder of its own: what a supplement brings is not
// looked at.
//
// Source: Red Hat's mkinitrd 5.1, /sbin/mkinitrd, findmodule and emit; booster,
// init/module.go and generator.
type fixedInitrd struct {
	sign    string // the file that tells
	modules string // its folder
	try     string
}

var fixedInitrds = []fixedInitrd{
	{"bin/nash", "lib", "make this initrd anew in the guest (mkinitrd -f --with=virtio_pci --with=virtio_blk), and plan again"},
	{"sbin/nash", "lib", "make this initrd anew in the guest (mkinitrd -f --with=virtio_pci --with=virtio_blk), and plan again"},
	{"etc/booster.init.yaml", "usr/lib/modules", `set "modules: virtio_pci,virtio_blk" in the guest's /etc/booster.yaml, make the initrd anew there (/usr/lib/booster/regenerate_images), and plan again`},
}

// drives tells whether the initrd was made for a virtio disk too.
func (f fixedInitrd) drives(k inspect.Kernel, rd *initrd.Initrd) bool {
	return !slices.ContainsFunc(rootDrivers, func(name string) bool {
		return k.Drivers[name] != inspect.Builtin && !rd.Has(path.Join(f.modules, name+".ko"))
	})
}

// ready tells that inspection found nothing missing and nothing to rename.
func ready(k inspect.Kernel) bool {
	for _, name := range rootDrivers {
		if w := k.Drivers[name]; w != inspect.Builtin && w != inspect.InInitrd {
			return false
		}
	}
	return len(k.Unstable) == 0
}
