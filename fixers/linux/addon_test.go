package linux

import (
	"bytes"
	"debug/pe"
	"testing"

	"hyper2kvm/fixers/inspect"
)

func TestAnAddonIsAProgramWithOneSection(t *testing.T) {
	for _, size := range []int{0, 1, peFileAlign, peSectionAlign + 1} {
		data := bytes.Repeat([]byte("x"), size)
		file, err := pe.NewFile(bytes.NewReader(addon(".cmdline", data)))
		if err != nil {
			t.Fatal(err)
		}
		s := file.Section(".cmdline")
		if s == nil || int(s.VirtualSize) != size || s.VirtualAddress%peSectionAlign != 0 {
			t.Fatalf("section of %d bytes: %+v", size, s)
		}
		got, err := s.Data()
		if err != nil || !bytes.Equal(got[:size], data) {
			t.Errorf("section holds %q, %v", got, err)
		}
		head := file.OptionalHeader.(*pe.OptionalHeader64)
		if head.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION || head.SizeOfImage < s.VirtualAddress+s.VirtualSize || file.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
			t.Errorf("header %+v", head)
		}
	}
}

func TestAddonsAreWhereTheStubLooks(t *testing.T) {
	for image, want := range map[string]string{
		"/efi/EFI/Linux/arch.efi":            "/efi/EFI/Linux/arch.efi.extra.d/hyper2kvm-x.addon.efi",
		"/boot/EFI/Linux/a+3.efi":            "/boot/EFI/Linux/a.efi.extra.d/hyper2kvm-x.addon.efi",
		"/boot/EFI/Linux/a-6.1+2-1.efi":      "/boot/EFI/Linux/a-6.1.efi.extra.d/hyper2kvm-x.addon.efi",
		"/boot/EFI/Linux/debian-6.1+rpt.efi": "/boot/EFI/Linux/debian-6.1+rpt.efi.extra.d/hyper2kvm-x.addon.efi",
	} {
		if got := addonPath(inspect.Kernel{Image: image}, "x"); got != want {
			t.Errorf("addonPath(%s) = %s, want %s", image, got, want)
		}
	}
}
