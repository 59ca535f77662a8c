package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheReportFindsVersionsKnown has a script in the emulator's place, which tells each time
// that it is asked: once, beside the stages.
func TestTheReportFindsVersionsKnown(t *testing.T) {
	bin := t.TempDir()
	asked := filepath.Join(bin, "asked")
	script := "#!/bin/sh\necho asked >> " + asked + "\necho QEMU emulator version 99.1\n"
	if err := os.WriteFile(filepath.Join(bin, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	r, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), noTest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said, err := os.ReadFile(asked); string(said) != "asked\n" {
		t.Errorf("before the report it was %q, %v", said, err)
	}
	if err := r.WriteReport(t.Context()); err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(r.report("json"))
	if err != nil || !strings.Contains(string(report), `"QEMU emulator version 99.1"`) {
		t.Errorf("the report does not tell it: %v", err)
	}
	if said, err := os.ReadFile(asked); string(said) != "asked\n" {
		t.Errorf("after the report it was %q, %v", said, err)
	}
}
