package inspect

import (
	"fmt"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// firmware tells which firmware the installed boot loader starts from. Where
// loaders for both are installed, the machine's record decides, then the
// partition table: a BIOS boot partition is made for nothing else, and without
// one there is no room on a GPT disk for a BIOS loader.
func (t *files) firmware(f Facts, m machine.Machine, seen []sight) Firmware {
	uefi, bios := uefiSign(seen), biosSign(f)
	switch {
	case uefi == "" && bios == "":
		return Firmware{Source: "no boot loader found for BIOS or UEFI"}
	case bios == "":
		return Firmware{machine.UEFI, uefi + t.platform("efi")}
	case uefi == "":
		return Firmware{machine.BIOS, bios + t.platform("pc")}
	}
	both := fmt.Sprintf("for both: %s; %s", uefi, bios)
	switch {
	case m.Firmware != "":
		return Firmware{m.Firmware, fmt.Sprintf("%s; the machine's record says %s", both, m.Firmware)}
	case f.onlyGPT() && partitionOf(f, biosBootGUID) == "":
		return Firmware{machine.UEFI, both + "; GPT without a BIOS boot partition"}
	case t.platform("efi") != "" && t.platform("pc") == "":
		return Firmware{machine.UEFI, both + t.platform("efi")}
	}
	return Firmware{machine.BIOS, both + t.platform("pc")}
}

// uefiSign is a loader on an EFI system partition, better a distribution's own
// than the one for removable disks.
func uefiSign(seen []sight) string {
	sign := ""
	for _, s := range seen {
		for _, l := range s.loaders {
			fallback := strings.HasPrefix(strings.ToUpper(l), "/EFI/BOOT/")
			if sign == "" || !fallback {
				sign = fmt.Sprintf("%s: %s", s.device, l)
			}
			if !fallback {
				return sign
			}
		}
	}
	return sign
}

// biosSign is boot code in a disk's first sector, or a BIOS boot partition.
func biosSign(f Facts) string {
	for _, d := range f.Topology.Disks {
		if d.BootCode != "" {
			return fmt.Sprintf("%s: boot code %s", d.Name, d.BootCode)
		}
	}
	if p := partitionOf(f, biosBootGUID); p != "" {
		return p + ": BIOS boot partition"
	}
	return ""
}

func partitionOf(f Facts, kind string) string {
	for _, d := range f.Topology.Disks {
		for _, p := range d.Partitions {
			if p.Type == kind {
				return p.Name
			}
		}
	}
	return ""
}

// onlyGPT tells whether every partitioned disk has a GPT.
func (f Facts) onlyGPT() bool {
	for _, d := range f.Topology.Disks {
		if d.Table != "" && d.Table != "gpt" {
			return false
		}
	}
	return true
}

// platforms are GRUB's folders for a firmware.
//
// Source: grub-install(8), --target.
var platforms = map[string][]string{
	"efi": {"x86_64-efi", "i386-efi", "arm64-efi"},
	"pc":  {"i386-pc"},
}

// platform is supporting evidence: GRUB's modules for a firmware.
func (t *files) platform(kind string) string {
	for _, dir := range []string{"/boot/grub", "/boot/grub2"} {
		for _, p := range platforms[kind] {
			if name := dir + "/" + p; t.exists(name) {
				return "; " + name
			}
		}
	}
	if p := t.grubPackage(kind); p != "" {
		return "; package " + p
	}
	return ""
}

// grubPackage is Debian's package of GRUB for a firmware: grub-pc,
// grub-efi-amd64, or that with -signed.
func (t *files) grubPackage(kind string) string {
	for _, p := range t.packages() {
		if p.name == "grub-"+kind || strings.HasPrefix(p.name, "grub-"+kind+"-") && !strings.HasSuffix(p.name, "-bin") {
			return p.name
		}
	}
	return ""
}
