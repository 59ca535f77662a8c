package proc

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestAProgramIsAskedForItsVersionOnce: until another one is in its place.
func TestAProgramIsAskedForItsVersionOnce(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	program, asked := filepath.Join(folder, "qemu-img"), filepath.Join(folder, "asked")
	for _, version := range []string{"7.2", "10.0.2"} {
		if err := errors.Join(os.RemoveAll(asked), os.RemoveAll(program), os.WriteFile(program, []byte("#!/bin/sh\necho . >>"+asked+"\necho qemu-img version "+version+"\necho more\n"), 0o755)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if said, err := Version(t.Context(), "qemu-img"); said != "qemu-img version "+version || err != nil {
				t.Errorf("it says %q, %v", said, err)
			}
		}
		if text, err := os.ReadFile(asked); string(text) != ".\n" || err != nil {
			t.Errorf("it was asked so often: %q, %v", text, err)
		}
	}
}

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
