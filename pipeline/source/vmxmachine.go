package source

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
)

// readVMX reads the record of a machine from its VMX file, and finds its disks'
// files in the folder of that, or in those that are allowed.
func readVMX(path string, allowed []string) (machine.Machine, error) {
	f, err := os.Open(path)
	if err != nil {
		return machine.Machine{}, absent(err, path)
	}
	defer f.Close()
	v, err := ParseVMX(f)
	if err != nil {
		return machine.Machine{}, fmt.Errorf("%s: %w", path, err)
	}
	m, err := v.machine(path)
	if err == nil {
		err = v.atRest(path, m)
	}
	if err != nil {
		return machine.Machine{}, fmt.Errorf("%s: %w", path, err)
	}
	for i := range m.Disks {
		d := &m.Disks[i]
		name := d.Path
		if d.Path, err = disk.Find(name, path, allowed); err != nil {
			return machine.Machine{}, fmt.Errorf("%s names the disk %q (%s): %w", path, name, at(*d), err)
		}
		if slices.ContainsFunc(m.Disks[:i], func(other machine.Disk) bool { return other.Path == d.Path }) {
			return machine.Machine{}, fmt.Errorf("%s names the disk %s twice; take one of the lines out", path, d.Path)
		}
	}
	return m, nil
}

// at is VMware's name of a disk's place.
func at(d machine.Disk) string { return fmt.Sprintf("%s%d:%d", d.Bus, d.Controller, d.Unit) }

// Bounds of what a machine of VMware's has.
//
// Source: VMware Configuration Maximums, vSphere 8: 768 CPUs, 24 TB.
const (
	mostCPUs     = 1024
	mostMemoryMB = 64 << 20
)

// machine is the record, with the disks' files named as the VMX file does.
func (v VMX) machine(path string) (machine.Machine, error) {
	m := machine.Machine{
		Name:       v["displayname"],
		Source:     path,
		SecureBoot: v.is("uefi.secureboot.enabled", "TRUE"),
		TPM:        v.is("vtpm.present", "TRUE") || v.is("managedvm.autoaddvtpm", "software"),
		UUID:       vmxUUID(v["uuid.bios"]),
		GuestID:    v["guestos"],
		LeftBehind: v.leftBehind(),
	}
	if m.Name == "" {
		m.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	var ok bool
	if m.Firmware, ok = firmwares[strings.ToLower(v["firmware"])]; !ok {
		return m, fmt.Errorf("firmware = %.40q is neither bios nor efi", v["firmware"])
	}
	var err error
	if m.CPUs, err = v.number("numvcpus", 1, mostCPUs); err != nil {
		return m, err
	}
	if m.CoresPerSocket, err = v.number("cpuid.corespersocket", 1, mostCPUs); err != nil {
		return m, err
	}
	memoryMB, err := v.number("memsize", 32, mostMemoryMB) // VMware's default
	if err != nil {
		return m, err
	}
	if memoryMB == 0 {
		return m, errors.New("memsize is 0: the machine has no memory")
	}
	m.Memory = int64(memoryMB) << 20
	if m.Disks, err = v.disks(); err != nil {
		return m, err
	}
	m.NICs, err = v.nics()
	return m, err
}

var firmwares = map[string]machine.Firmware{"": machine.BIOS, "bios": machine.BIOS, "efi": machine.UEFI}

// atRest refuses a machine whose state is not all in its disks, and one that
// says nothing of them: Workstation encrypts all that a VMX file says.
//
// Source: Workstation Pro, "Encrypting Virtual Machines"; vSphere Virtual
// Machine Administration, "Suspending a Virtual Machine", for checkpoint.vmState.
func (v VMX) atRest(path string, m machine.Machine) error {
	if len(m.Disks) == 0 && v["encryption.data"] != "" {
		return fmt.Errorf("%w, and so is what it says of its disks; take off the encryption in VMware (its options, Access Control), and copy the machine again", disk.ErrEncrypted)
	}
	if state := v["checkpoint.vmstate"]; state != "" {
		return fmt.Errorf("the machine is suspended, and part of its state is in %q; resume it and shut it down in VMware, or discard that state there, and copy it again", state)
	}
	if name := v["sched.swap.derivedname"]; name != "" {
		swap := filepath.Join(filepath.Dir(path), filepath.Base(name))
		if _, err := os.Lstat(swap); err == nil {
			return fmt.Errorf("%w: ESXi's swap file %s is there, as while the machine runs; shut it down, or remove that file if no machine runs (a copy made while it ran is to be made again)", disk.ErrInUse, swap)
		}
	}
	return nil
}

var passedThrough = regexp.MustCompile(`^pcipassthru\d+\.present$`)

// leftBehind are devices of the host that a machine had and cannot take along.
func (v VMX) leftBehind() (list []string) {
	for _, key := range slices.Sorted(maps.Keys(v)) {
		device, _, _ := strings.Cut(key, ".")
		switch {
		case passedThrough.MatchString(key) && v.is(key, "TRUE"):
			list = append(list, device)
		case vmxDevice.MatchString(key) && v.deviceType(key) == passthrough && !v.off(key):
			list = append(list, strings.TrimSuffix(key, ".devicetype"))
		}
	}
	return list
}

var uuidDigits = regexp.MustCompile(`^[0-9a-f]{32}$`)

// vmxUUID turns VMware's "56 4d 12 …-…" into a UUID, or nothing.
func vmxUUID(text string) string {
	digits := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(text))
	if !uuidDigits.MatchString(digits) {
		return ""
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}
