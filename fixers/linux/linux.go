// Package linux holds the fixers of Linux guests, one file each, named after
// the fixer. They edit files alone: no program of the guest is run.
//
// Unstable name: a device name that follows from the controller, the serial
// number or the order of discovery; it is another one on KVM, or none.
// Stable name: one made from content: UUID=… or PARTUUID=….
package linux

import (
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/inspect"
)

// Fixers are the Linux fixers in their order. Those that rename devices come
// first. The initrd comes after whatever it has copies of: its supplement holds
// the edited files.
var Fixers = []fixer.Fixer{
	fstabNames,
	vmwareMounts,
	crypttabNames,
	grubCfg,
	unifiedCmdline,
	defaultGrub,
	deviceMap,
	grubInstallDevices,
	resume,
	mdadmDevices,
	lvmDevices,
	interfaceNames,
	cloudInit,
	vmwareModules,
	initrdDrivers,
	uefiFallback,
	vmwareTarball,
	vmwareToolsInert,
}

// onLinux guards every fixer of this package: none sees a Windows guest.
func onLinux(in fixer.Input) bool { return in.Facts.OS.Family == inspect.Linux }
