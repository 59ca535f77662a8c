package source

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// buses are VMware's, in the order in which its firmware, and virt-v2v, look for
// disks, with the highest numbers of a controller and of a unit on it.
//
// Source: VMware Configuration Maximums, vSphere 8; virt-v2v, parse_vmx.ml.
var buses = []struct {
	name             string
	controller, unit int
}{{"scsi", 3, 64}, {"nvme", 3, 63}, {"sata", 3, 29}, {"ide", 1, 1}}

var (
	vmxDisk   = regexp.MustCompile(`^((scsi|nvme|sata|ide)(\d+)):(\d+)\.filename$`)
	vmxDevice = regexp.MustCompile(`^((?:scsi|nvme|sata|ide)\d+):\d+\.devicetype$`)
)

// device is what stands at a place on a bus.
type device int

const (
	unknown     device = iota
	fixed              // a disk, whose descriptor may still stand for a device
	removable          // a CD drive, which stays behind
	passthrough        // a device of the host
)

// deviceTypes are VMware's, in lower case.
//
// Source: virt-v2v, parse_vmx.ml; files written by Workstation and ESXi.
var deviceTypes = map[string]device{
	"":                     fixed,
	"disk":                 fixed,
	"plaindisk":            fixed,
	"rawdisk":              fixed,
	"scsi-harddisk":        fixed,
	"ata-harddisk":         fixed,
	"sata-harddisk":        fixed,
	"nvme-harddisk":        fixed,
	"scsi-passthru-rdm":    fixed,
	"scsi-nonpassthru-rdm": fixed,
	"cdrom-image":          removable,
	"cdrom-raw":            removable,
	"atapi-cdrom":          removable,
	"scsi-cdrom":           removable,
	"scsi-passthru":        passthrough,
}

// disks are the fixed disks, with their files named as in the VMX file.
func (v VMX) disks() ([]machine.Disk, error) {
	var disks []machine.Disk
	for key, file := range v {
		at := vmxDisk.FindStringSubmatch(key)
		if at == nil || v.off(key) {
			continue
		}
		device := strings.TrimSuffix(key, ".filename")
		kind, err := v.kind(device, file)
		if err != nil {
			return nil, err
		}
		if kind != fixed || file == "" {
			continue
		}
		d, err := place(device, at[2], at[3], at[4])
		if err != nil {
			return nil, err
		}
		if redo := v[device+".redo"]; redo != "" {
			return nil, fmt.Errorf("the newest data of %s are in %q, which VMware has neither kept nor thrown away; power the machine on and shut it down there, and copy it again", device, redo)
		}
		d.Path, d.Model, d.Mode, d.Shared = file, strings.ToLower(v[at[1]+".virtualdev"]), v.mode(device), v.shared(at[1], device)
		disks = append(disks, d)
	}
	slices.SortFunc(disks, func(a, b machine.Disk) int {
		return cmp.Or(cmp.Compare(busOrder(a.Bus), busOrder(b.Bus)), cmp.Compare(a.Controller, b.Controller), cmp.Compare(a.Unit, b.Unit))
	})
	v.bootOrder(disks)
	return disks, nil
}

// off tells whether the device of a key, or its controller, is switched off.
func (v VMX) off(key string) bool {
	device, _, _ := strings.Cut(key, ".")
	controller, _, _ := strings.Cut(device, ":")
	return v.absent(device) || v.absent(controller)
}

func (v VMX) deviceType(key string) device { return deviceTypes[strings.ToLower(v[key])] }

// kind tells a disk from what is none. A type that is not known must not hide
// a disk.
func (v VMX) kind(device, file string) (device, error) {
	kind := v.deviceType(device + ".devicetype")
	switch {
	case kind == fixed && (strings.EqualFold(file, "auto detect") || strings.EqualFold(filepath.Ext(file), ".iso")):
		return removable, nil
	case kind == unknown && strings.EqualFold(filepath.Ext(file), ".vmdk"):
		return fixed, nil
	case kind == unknown:
		return unknown, fmt.Errorf("%s.deviceType = %.40q is not known; if it is no disk, set %s.present = \"FALSE\"", device, v[device+".devicetype"], device)
	}
	return kind, nil
}

// place reads a disk's place, which must be one that VMware has.
func place(device, bus, controller, unit string) (machine.Disk, error) {
	d := machine.Disk{Bus: bus}
	limits := buses[busOrder(bus)]
	for _, n := range []struct {
		text string
		most int
		to   *int
	}{{controller, limits.controller, &d.Controller}, {unit, limits.unit, &d.Unit}} {
		value, err := strconv.Atoi(n.text)
		if err != nil || value > n.most || strconv.Itoa(value) != n.text {
			return d, fmt.Errorf("%.40s is no place that VMware has for a disk (%s0:0 to %s%d:%d); set %.40s.present = \"FALSE\" if no disk is meant", device, bus, bus, limits.controller, limits.unit, device)
		}
		*n.to = value
	}
	return d, nil
}

func busOrder(name string) int {
	for i, b := range buses {
		if b.name == name {
			return i
		}
	}
	return len(buses)
}

// mode is how VMware treats what is written to a disk; "" if it is kept.
func (v VMX) mode(device string) string {
	mode := strings.ToLower(strings.TrimSpace(v[device+".mode"]))
	if mode == "persistent" {
		return ""
	}
	return mode
}

// shared is the setting by which other machines may write to a disk too.
//
// Source: VMware KB 1034165 (multi-writer); Setup for Failover Clustering, for
// sharedBus.
func (v VMX) shared(controller, device string) string {
	for _, key := range []string{controller + ".sharedbus", device + ".sharing"} {
		if value := strings.ToLower(v[key]); value != "" && value != "none" && value != "sharing-none" {
			return key + " = " + value
		}
	}
	return ""
}

// bootOrder notes the order in which the BIOS is told to start from the disks.
func (v VMX) bootOrder(disks []machine.Disk) {
	order := strings.Split(strings.ToLower(strings.ReplaceAll(v["bios.hddorder"], " ", "")), ",")
	for i := range disks {
		disks[i].Boot = slices.Index(order, at(disks[i])) + 1
	}
}
