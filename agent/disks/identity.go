package disks

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"
)

// identify reads what a disk says of itself. Names are those that udev gives in
// /dev/disk/by-id, as far as sysfs has what they are made of: results that name a disk
// so are then understood by machines with udev.
//
// Source: systemd rules.d/60-persistent-storage.rules; Linux
// Documentation/ABI/stable/sysfs-block, sysfs-bus-scsi-devices, sysfs-block-nvme.
func (m Machine) identify(b *block) {
	switch where := m.where(b.name); {
	case strings.HasPrefix(b.name, "nvme"):
		b.bus, b.model, b.serial = "nvme", m.attr(b.name, "device", "model"), m.attr(b.name, "device", "serial")
		b.add("nvme-", m.attr(b.name, "wwid"))
	case strings.HasPrefix(b.name, "vd"):
		b.bus, b.serial = "virtio", m.attr(b.name, "serial")
		b.add("virtio-", b.serial)
	case strings.HasPrefix(b.name, "mmcblk"):
		b.bus, b.model, b.serial = "mmc", m.attr(b.name, "device", "name"), m.attr(b.name, "device", "serial")
		b.add("mmc-", joined(b.model, b.serial))
	default:
		m.identifySCSI(b, where)
	}
}

// where is the place of a disk's device in sysfs; "" if it has none.
func (m Machine) where(name string) string {
	path, _ := filepath.EvalSymlinks(filepath.Join(m.Sys, "block", name))
	return path
}

// identifySCSI is for all that the kernel shows as a SCSI disk: SAS, SATA, USB, PVSCSI.
func (m Machine) identifySCSI(b *block, where string) {
	vendor := m.attr(b.name, "device", "vendor")
	b.model, b.bus = m.attr(b.name, "device", "model"), bus(where, vendor)
	b.serial = serialPage(m.raw(b.name, "device", "vpd_pg80"))
	if naa, ok := strings.CutPrefix(m.attr(b.name, "device", "wwid"), "naa."); ok {
		b.add("wwn-0x", naa)
	} else if eui, ok := strings.CutPrefix(m.attr(b.name, "device", "wwid"), "eui."); ok {
		b.add("wwn-0x", eui)
	}
	if b.bus == "usb" {
		if s := usbSerial(where); s != "" {
			b.serial = s
			b.add("usb-", joined(vendor, b.model, s)+"-"+unit(where))
		}
		return
	}
	if b.serial != "" {
		b.add("serial-", joined(vendor, b.model, b.serial))
	}
}

// bus is how a SCSI disk is attached, by its place in sysfs.
func bus(where, vendor string) string {
	switch {
	case strings.Contains(where, "/usb"):
		return "usb"
	case strings.Contains(where, "/ata"), vendor == "ATA":
		return "sata"
	case strings.Contains(where, "/end_device-"):
		return "sas"
	case strings.Contains(where, "/host"):
		return "scsi"
	}
	return ""
}

// serialPage is the serial number in the vital product data of a SCSI disk.
//
// Source: SPC-4, 7.8.17, Unit Serial Number VPD page.
func serialPage(page []byte) string {
	const head, code = 4, 0x80
	if len(page) < head || page[1] != code {
		return ""
	}
	n := int(page[2])<<8 | int(page[3])
	return strings.Trim(string(page[head:min(len(page), head+n)]), "\x00 ")
}

// usbSerial is the serial number of the USB device that a disk is part of: that of the
// nearest folder above that is a USB device, and not one of its interfaces.
func usbSerial(where string) string {
	for folder := filepath.Dir(where); len(folder) > 1; folder = filepath.Dir(folder) {
		if read(filepath.Join(folder, "idVendor")) != nil {
			return strings.TrimSpace(string(read(filepath.Join(folder, "serial"))))
		}
	}
	return ""
}

var address = regexp.MustCompile(`/\d+:\d+:(\d+:\d+)/block/`)

// unit is the target and the LUN of a SCSI disk: a card reader has several.
func unit(where string) string {
	if found := address.FindStringSubmatch(where); found != nil {
		return found[1]
	}
	return "0:0"
}

// longestID is how long an ID may be. What is longer ends with a digest of all of it.
const longestID = 128

// add adds what a disk says of itself, unless it says nothing by it.
func (b *block) add(kind, said string) {
	if said = strings.TrimSpace(said); nobodys(said, b.serial) {
		return
	}
	b.ids = append(b.ids, bounded(kind+plain(said)))
}

func bounded(id string) string {
	if len(id) <= longestID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	digest := hex.EncodeToString(sum[:8])
	return id[:longestID-len(digest)-1] + "-" + digest
}

// emulated are the serial numbers that QEMU makes up for disks without one: they tell
// the slot, and the next disk in it has the same.
//
// Source: QEMU hw/ide/core.c, ide_init_drive; hw/usb/desc.c, usb_desc_create_serial.
var emulated = regexp.MustCompile(`^(QM\d{5}|\d+-[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d-[\d.]+)$`)

// nobodys tells of words and serial numbers that many disks have.
func nobodys(words ...string) bool {
	for _, w := range words {
		if emulated.MatchString(w) {
			return true
		}
	}
	said := strings.Trim(words[0], "0 _-.:")
	return said == "" || strings.Trim(said, "Ff") == "" || words[0] == "0123456789ABCDEF"
}

func joined(words ...string) string {
	var all []string
	for _, w := range words {
		if w = strings.TrimSpace(w); w != "" {
			all = append(all, w)
		}
	}
	return strings.Join(all, "_")
}

// plain is a text of a stranger's as an ID may have it. Blanks become one _, as udev
// has it.
//
// Source: systemd src/shared/udev-util.c, udev_replace_whitespace, udev_replace_chars.
func plain(text string) string {
	text = strings.Join(strings.Fields(text), "_")
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("_.:=@+-", r):
			return r
		}
		return '_'
	}, text)
}
