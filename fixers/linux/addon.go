package linux

import (
	"bytes"
	"encoding/binary"
	"path"
	"regexp"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/inspect"
)

// Versions of systemd-stub from which on it takes an addon's command line, and
// an addon's initrd.
//
// Source: systemd NEWS 254 and 257.
const (
	addonCmdline = 254
	addonInitrd  = 257
)

// takesAddons tells whether a unified image can be added to from outside. Under
// Secure Boot an addon must be signed by who signed the image.
func takesAddons(in fixer.Input, k inspect.Kernel, since int) bool {
	return k.Stub >= since && !in.Machine.SecureBoot
}

// bootCounter is what systemd-boot has in the name of an image whose boots it
// counts; systemd-stub looks for addons without it.
var bootCounter = regexp.MustCompile(`\+\d+(-\d+)?(\.[^.]*)$`)

// addonPath is where systemd-stub looks for an addon to a unified image.
//
// Source: systemd-stub(7); src/boot/util.c, get_extra_dir.
func addonPath(k inspect.Kernel, name string) string {
	image := path.Join(path.Dir(k.Image), bootCounter.ReplaceAllString(path.Base(k.Image), "$2"))
	return image + ".extra.d/hyper2kvm-" + name + ".addon.efi"
}

const (
	peSectionAlign = 0x1000
	peFileAlign    = 0x200
)

// addon makes an EFI program for x86-64 that is never started: the firmware loads
// it, and systemd-stub takes its section. Were it started, it would return
// EFI_UNSUPPORTED.
//
// Source: Microsoft's "PE Format"; systemd src/boot/addon.c.
func addon(section string, data []byte) []byte {
	code := []byte{0x48, 0xb8, 3, 0, 0, 0, 0, 0, 0, 0x80, 0xc3} // mov rax, 0x8000000000000003; ret
	var head bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			binary.Write(&head, binary.LittleEndian, v) // cannot fail: a buffer, and values of fixed size
		}
	}
	end := aligned(peSectionAlign+len(code), peSectionAlign) + aligned(len(data), peSectionAlign)
	put([]byte("MZ"), make([]byte, 58), uint32(64), []byte("PE\x00\x00"))
	// COFF: machine, sections, time, symbols, size of what follows, characteristics.
	put(uint16(0x8664), uint16(2), [3]uint32{}, uint16(240), uint16(0x22e))
	// Optional header: PE32+, sizes, entry point and base of code.
	put(uint16(0x20b), uint16(0), uint32(aligned(len(code), peFileAlign)), uint32(aligned(len(data), peFileAlign)), uint32(0))
	put(uint32(peSectionAlign), uint32(peSectionAlign), uint64(0x1dd510000), uint32(peSectionAlign), uint32(peFileAlign))
	// Versions, image's and headers' size, checksum, EFI application, NX.
	put([4]uint16{}, uint16(1), uint16(1), uint32(0), uint32(end), uint32(peFileAlign*2), uint32(0), uint16(10), uint16(0x160))
	put([4]uint64{0x100000, 0x1000, 0x100000, 0x1000}, uint32(0), uint32(16), [16]uint64{})
	at := peFileAlign * 2
	for _, s := range []struct {
		name    string
		size    int
		address int
		flags   uint32
	}{
		{".text", len(code), peSectionAlign, 0x60000020},
		{section, len(data), 2 * peSectionAlign, 0x40000040},
	} {
		var name [8]byte
		copy(name[:], s.name)
		put(name, uint32(s.size), uint32(s.address), uint32(aligned(s.size, peFileAlign)), uint32(at), [2]uint32{}, uint32(0), s.flags)
		at += aligned(s.size, peFileAlign)
	}
	out := make([]byte, at)
	copy(out, head.Bytes())
	copy(out[2*peFileAlign:], code)
	copy(out[3*peFileAlign:], data)
	return out
}

// aligned is n rounded up to a multiple of to.
func aligned(n, to int) int { return (n + to - 1) / to * to }
