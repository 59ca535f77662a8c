package linux

import (
	"bytes"
	"debug/pe"
	"fmt"

	"hyper2kvm/fixers/fixer"
)

// trusted judges the program that firmware will start, where it starts only what
// is signed. KVM's firmware knows Microsoft's keys, which sign shims.
func (e espPlan) trusted(program string) ([]fixer.Concern, error) {
	if !e.in.Machine.SecureBoot {
		return nil, nil
	}
	data, err := e.view.ReadFile(program, maxProgram)
	if err != nil {
		return nil, err
	}
	switch {
	case !signed(data):
		return []fixer.Concern{unsigned(program)}, nil
	case !bytes.Contains(data, []byte("UEFI SHIM")):
		return []fixer.Concern{otherKey(program)}, nil
	}
	return nil, nil
}

// signed tells whether an EFI program carries a signature.
//
// Source: Microsoft PE format, "The Attribute Certificate Table".
func signed(program []byte) bool {
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return false
	}
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	return ok && header.NumberOfRvaAndSizes > pe.IMAGE_DIRECTORY_ENTRY_SECURITY && header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size > 0
}

func unsigned(program string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Blocker,
		Code:  "linux/uefi-secure-boot",
		Text:  fmt.Sprintf("%s is not signed, and the machine has Secure Boot on: KVM's firmware will not start it", program),
		Try:   "install shim's signed package in the guest, or turn Secure Boot off in the VM's settings, and migrate again",
	}
}

func otherKey(program string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/uefi-secure-boot",
		Text:  fmt.Sprintf("%s is signed and no shim: KVM's firmware starts it only if Microsoft signed it, or with its key enrolled", program),
		Try:   "enrol the key in the domain's NVRAM, install shim's signed package in the guest, or turn Secure Boot off",
	}
}
