package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A VMX comes from a stranger; what it names becomes the guest's disk.
func TestAVMXCannotNameAFileThatIsNoVMDK(t *testing.T) {
	if _, err := proc.Look("qemu-img"); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	raw := write(t, "host.raw", strings.Repeat("x", 4096))
	vmx := write(t, "evil.vmx", "scsi0:0.fileName = \""+raw+"\"\n")
	if m, err := Read(t.Context(), vmx, nil); !errors.Is(err, ErrBadInput) {
		t.Errorf("Read = %+v, %v, want %v", m, err, ErrBadInput)
	}
}

func TestAVMXCannotSmuggleTextIntoHardware(t *testing.T) {
	v, err := ParseVMX(strings.NewReader("ethernet0.present = \"TRUE\"\nethernet0.address = \"00:50:56:00:00:01,script=/tmp/x\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := v.machine("/a.vmx"); err == nil {
		t.Errorf("machine = %+v, want an error", m.NICs)
	}
	if got := vmxUUID(strings.Repeat("<&", 16)); got != "" {
		t.Errorf("vmxUUID of no UUID = %q", got)
	}
}

func TestASourceWhoseNameIsNotUTF8IsRefused(t *testing.T) {
	path := write(t, "\xff.raw", strings.Repeat("x", 4096))
	if _, err := Read(t.Context(), path, nil); !errors.Is(err, ErrBadInput) || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("Read = %v, want %v", err, ErrBadInput)
	}
}
