package inspect

import (
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// A link under /dev/disk/by-path is the controller's PCI address, the disk's
// place on it, and the partition.
//
// Source: systemd src/udev/udev-builtin-path_id.c.
var (
	pathName = regexp.MustCompile(`^pci-([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])-(.+?)(?:-part(\d{1,3}))?$`)
	scsiSlot = regexp.MustCompile(`^scsi-\d+:\d+:(\d{1,3}):\d+$`)
	sasPhy   = regexp.MustCompile(`^sas-(?:exp.*-)?phy(\d{1,3})-lun-\S+$`)
	sasOther = regexp.MustCompile(`^sas-0x[0-9a-f]+-lun-\S+$`)
	ataSlot  = regexp.MustCompile(`^ata-(\d{1,3})(?:\.(\d))?$`)
	nvmeSlot = regexp.MustCompile(`^nvme-(\d{1,3})$`)
)

// ideAddress is where VMware's virtual chip set has its IDE controller.
const ideAddress = "0000:00:07.1"

// anyUnit is a place that names no unit.
const anyUnit = -1

// byPath resolves a name under /dev/disk/by-path. A machine's only disk is
// meant by every such name, for the guest has started from it.
func (h hardware) byPath(name string) (string, bool) {
	m := pathName.FindStringSubmatch(name)
	if m == nil {
		return "", false
	}
	address, place, partition := m[1], m[2], m[3]
	if len(h.disks) == 1 {
		return part(h.disks[0], partition)
	}
	s, ok := h.at(address, place)
	if !ok {
		return "", false
	}
	return part(s.Disk, partition)
}

// at finds the disk at a place of the controller at a PCI address.
func (h hardware) at(address, place string) (slot, bool) {
	switch m := firstMatch(place, ataSlot, nvmeSlot, scsiSlot, sasPhy, sasOther); {
	case m == nil:
		return slot{}, false
	case address == ideAddress:
		return h.ideDisk(m)
	case strings.HasPrefix(place, "ata-"):
		return h.onController("sata", address, number(m[1])-1) // ports count from 1
	case strings.HasPrefix(place, "nvme-"):
		return h.onController("nvme", address, number(m[1])-1) // so do name spaces
	case len(m) == 1: // a SAS address names no unit
		return h.onController("scsi", address, anyUnit)
	default:
		return h.onController("scsi", address, number(m[1]))
	}
}

func firstMatch(s string, patterns ...*regexp.Regexp) []string {
	for _, p := range patterns {
		if m := p.FindStringSubmatch(s); m != nil {
			return m
		}
	}
	return nil
}

// ideDisk finds an IDE disk: ata-1.0 is the first channel's master. Older
// names carry no unit, or not the channel.
func (h hardware) ideDisk(place []string) (slot, bool) {
	ide := h.slots(onBus("ide"))
	if !strings.HasPrefix(place[0], "ata-") {
		return only(ide)
	}
	ide = filter(ide, func(s slot) bool { return s.record.Controller == number(place[1])-1 })
	if place[2] == "" {
		return only(ide)
	}
	return only(filter(ide, func(s slot) bool { return s.record.Unit == number(place[2]) }))
}

// onController finds the disk at a unit of the controller at a PCI address.
func (h hardware) onController(bus, address string, unit int) (slot, bool) {
	all := filter(h.slots(onBus(bus)), func(s slot) bool { return mayBeAt(s.record, address) })
	c, ok := h.controllerAt(controllers(all), address)
	if !ok {
		return slot{}, false
	}
	return only(filter(all, func(s slot) bool {
		return s.record.Controller == c && (unit == anyUnit || s.record.Unit == unit)
	}))
}

// legacy are the PCI buses of VMware's chip set and of its conventional PCI
// bridge. LSI Logic and BusLogic parallel adapters are there; PVSCSI, LSI
// Logic SAS and NVMe are PCI Express devices behind a root port.
func legacy(address string) bool {
	return strings.HasPrefix(address, "0000:00:") || strings.HasPrefix(address, "0000:02:")
}

// mayBeAt tells whether a disk's adapter can have a PCI address.
func mayBeAt(d machine.Disk, address string) bool {
	switch d.Model {
	case "lsilogic", "buslogic":
		return legacy(address)
	case "pvscsi", "lsisas1068":
		return !legacy(address)
	}
	return true
}

// vmwareSCSI are the PCI addresses that VMware gives to a machine's PCI Express
// adapters 0 to 3 when no network card was there first: slot numbers 160, 192,
// 224 and 256 in the VMX file.
var vmwareSCSI = []string{"0000:03:00.0", "0000:0b:00.0", "0000:13:00.0", "0000:1b:00.0"}

// firstSCSI are the addresses that adapter 0 gets, by its kind.
var firstSCSI = []string{vmwareSCSI[0], "0000:00:10.0"}

// controllerAt tells which of the controllers that have disks is at a PCI
// address. The only one is, wherever that may be. Adapter 0 has an address of
// its own, so the other of two is at any other. Of more, VMware's row says it,
// unless network cards stand in the row.
func (h hardware) controllerAt(numbers []int, address string) (int, bool) {
	if len(numbers) == 1 {
		return numbers[0], true
	}
	if len(numbers) < 2 || numbers[0] != 0 {
		return 0, false
	}
	if slices.Contains(firstSCSI, address) {
		return 0, true
	}
	if len(numbers) == 2 {
		return numbers[1], true
	}
	i := slices.Index(vmwareSCSI, address)
	if i < 0 || slices.ContainsFunc(h.nics, inRow) {
		return 0, false
	}
	return i, slices.Contains(numbers, i)
}

// inRow tells whether a network card has, or may have, an address that would
// otherwise be a SCSI adapter's.
func inRow(n machine.NIC) bool {
	return n.Slot == 0 || n.Slot >= 160
}

// idName is a name that udev makes from what a disk says of itself. VMware's
// disks say a serial number that the record does not hold.
var idName = regexp.MustCompile(`^(?:wwn|scsi|ata|nvme)-.+?(?:-part(\d{1,3}))?$`)

// byID resolves a name under /dev/disk/by-id: only a machine's only disk.
func (h hardware) byID(name string) (string, bool) {
	m := idName.FindStringSubmatch(name)
	if m == nil || len(h.disks) != 1 {
		return "", false
	}
	return part(h.disks[0], m[1])
}
