// Package disks knows the disks that are attached to this appliance: which there are,
// what is on them, and what each was chosen for. It mounts, formats and protects what
// was chosen, and touches nothing else. The bytes of guests' disks are moved by others.
//
// Disk: a whole block device that the appliance does not run from. Identity, or ID:
// what a disk says of itself, whatever it is plugged into. Choice: what somebody said
// that a disk is for; it is kept by the disk's identity.
//
// It needs neither udevd nor what udevd makes: the kernel's own files say what there is.
package disks

import (
	"errors"
	"path/filepath"
)

// Errors that callers decide on. What wraps them says what to do.
var (
	// ErrUnknown is a disk that is not there, and was not chosen.
	ErrUnknown = errors.New("there is no such disk")
	// ErrInUse is a disk that something uses.
	ErrInUse = errors.New("the disk is in use")
	// ErrHolds is a disk whose content would be lost.
	ErrHolds = errors.New("there is something on the disk")
	// ErrConfirm is a request that does not name the disk whose content may be lost.
	ErrConfirm = errors.New("it is not confirmed which disk is meant")
	// ErrInput is a choice that cannot be made as it is asked for.
	ErrInput = errors.New("the disk cannot be chosen so")
	// ErrMount is a file system that is not mounted.
	ErrMount = errors.New("the file system cannot be mounted")
)

// Machine is where the kernel shows its disks. Tests play one.
type Machine struct {
	Sys  string // the folder of sysfs
	Dev  string // the folder of device nodes
	Proc string // the folder of procfs
	// Run is the folder in which storages are mounted.
	Run string
	// Extra tells of devices that are disks although their kind is left out; nil: none.
	Extra func(name string) bool
}

// ThisMachine is the one that this program runs on.
func ThisMachine() Machine {
	return Machine{Sys: "/sys", Dev: "/dev", Proc: "/proc", Run: "/run/hyper2kvm/storages"}
}

// Path is the name by which results name a disk: it stays the same wherever the disk is
// plugged in, and where it is one of udev's, other machines know the disk by it too.
func (m Machine) Path(id string) string { return filepath.Join(m.Dev, "disk", "by-id", id) }

func (m Machine) node(name string) string { return filepath.Join(m.Dev, name) }
