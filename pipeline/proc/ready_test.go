package proc

import (
	"errors"
	"testing"
)

func TestAProgramMustBeNewEnough(t *testing.T) {
	p := Program{Name: "qemu-img", Package: "qemu-utils", Least: "7.2"}
	for said, old := range map[string]bool{
		"qemu-img version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)": false,
		"qemu-img version 7.2":                          false,
		"QEMU emulator version 10.0.2":                  false,
		"qemu-img version 7.1.93":                       true,
		"qemu-img version 5.2.0 (Debian 1:5.2+dfsg-11)": true,
		"": true,
		"qemu-img version 99999999999999999999999.1": false,
	} {
		if err := p.newEnough(said); errors.Is(err, ErrOld) != old {
			t.Errorf("newEnough(%q) = %v, want too old: %v", said, err, old)
		}
	}
}
