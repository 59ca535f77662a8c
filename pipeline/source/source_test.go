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
	vmx := filepath.Join(filepath.Dir(raw), "evil.vmx")
	if err := os.WriteFile(vmx, []byte("scsi0:0.fileName = \"host.raw\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Read(t.Context(), vmx, nil); !errors.Is(err, ErrBadInput) {
		t.Errorf("Read = %+v, %v, want %v", m, err, ErrBadInput)
	}
}

func TestAUUIDIsOneOrIsLeftOut(t *testing.T) {
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
