package guest

import (
	"bytes"
	"fmt"
)

// bootCodeSize is how much of a disk's first sector is code; the disk's
// signature and the partition table follow.
const bootCodeSize = 440

// bootCodes are texts in the boot sectors of boot loaders.
// Sources: GRUB 2 grub-core/boot/i386/pc/boot.S; LILO first.S; Windows' MBR.
var bootCodes = []struct{ text, name string }{
	{"GRUB", "GRUB"},
	{"LILO", "LILO"},
	{"Invalid partition table", "Windows"},
}

// BootCode names the boot loader whose code is in a disk's first sector, or "".
func BootCode(sector []byte) string {
	code := sector[:min(len(sector), bootCodeSize)]
	for _, known := range bootCodes {
		if bytes.Contains(code, []byte(known.text)) {
			return known.name
		}
	}
	return ""
}

// MBRPartUUID is the PARTUUID that the kernel gives a partition of an MBR disk
// with this signature. Source: Linux block/partitions/msdos.c, set_info.
func MBRPartUUID(signature uint32, number int) string {
	return fmt.Sprintf("%08x-%02x", signature, number)
}

// IsExtended tells whether an MBR partition of this type is only a container
// of logical partitions. Source: Linux block/partitions/msdos.c, is_extended_partition.
func IsExtended(mbrType string) bool {
	return mbrType == "05" || mbrType == "0f" || mbrType == "85"
}
