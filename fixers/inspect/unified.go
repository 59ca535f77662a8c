package inspect

import (
	"bytes"
	"debug/pe"
	"errors"
	"strings"
)

// unified reads a unified kernel image: kernel, initrd and command line in one
// EFI program.
//
// Source: uapi-group.org, "Unified Kernel Image"; systemd src/boot/efi/stub.c,
// .sdmagic.
func (t *files) unified(image string) offer {
	o := offer{image: image, source: image, inImage: true, chosen: true}
	data, ok := t.read(image, maxImage)
	if !ok {
		return o
	}
	file, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		o.problems = append(o.problems, err.Error())
		return o
	}
	o.version = text(file, ".uname")
	o.options = text(file, ".cmdline")
	if _, version, ok := strings.Cut(text(file, ".sdmagic"), "LoaderInfo: systemd-stub "); ok {
		o.stub = leadingNumber(version)
	}
	var os OS
	osRelease(&os, strings.Split(text(file, ".osrel"), "\n"))
	o.distro = os.Distro
	return o
}

// unifiedInitrd is the initrd in a unified kernel image; nil for other images.
func (t *files) unifiedInitrd(image string) []byte {
	if !strings.HasSuffix(strings.ToLower(image), ".efi") {
		return nil
	}
	data, ok := t.read(image, maxImage)
	if !ok {
		return nil
	}
	initrd, err := UnifiedInitrd(data)
	if err != nil {
		return nil // unified tells of it
	}
	return initrd
}

// errNoInitrd is a unified image without an initrd of its own.
var errNoInitrd = errors.New("no initrd in the image")

// UnifiedInitrd is the initrd in a unified kernel image.
func UnifiedInitrd(image []byte) ([]byte, error) {
	file, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	initrd := section(file, ".initrd", maxImage)
	if initrd == nil {
		return nil, errNoInitrd
	}
	return initrd, nil
}

// section is a section of a program without its padding; nil when it is not
// there, too large or cut short.
func section(file *pe.File, name string, limit uint32) []byte {
	s := file.Section(name)
	if s == nil || s.Size > limit {
		return nil
	}
	data, err := s.Data()
	if err != nil {
		return nil
	}
	if s.VirtualSize > 0 && s.VirtualSize < s.Size {
		data = data[:s.VirtualSize]
	}
	return data
}

func text(file *pe.File, name string) string {
	return strings.TrimSpace(strings.Trim(string(section(file, name, 64<<10)), "\x00"))
}
